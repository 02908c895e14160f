//! Operations by name, for scripts and command lines: `client.send("set", "/test", "hello")`.

use super::{CreateMode, Error, Reply, ZooClient};

/// The names that `send` understands.
const NAMES: &str = "create, ensure, delete, deleteall, exists, get, set, ls, getAcl, sync, count, whoami";

impl ZooClient {
    /// Carries out the operation with this name. `value` is the data for `create` and `set`, the mode for a `create` being written behind the name
    /// (`create -e`, `-s`, `-e -s`, `-c`), the version for `delete` if it is not empty, and nothing to the others.
    ///
    /// ```
    /// # use zoo::{client::ZooClient, server::ZooServer};
    /// # let server = ZooServer::start()?;
    /// # let client = ZooClient::connect(server.host())?;
    /// use zoo::client::Reply;
    ///
    /// client.send("create", "/test", "")?;
    /// client.send("set", "/test", "hello")?;
    /// assert!(matches!(client.send("get", "/test", "")?, Reply::Data(data, _) if data == b"hello"));
    /// client.send("create -e -s", "/test/n-", "")?;
    /// assert!(matches!(client.send("ls", "/test", "")?, Reply::Children(names, _) if names == ["n-0000000000"]));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn send(&self, command: &str, path: &str, value: impl AsRef<[u8]>) -> Result<Reply, Error> {
        let value = value.as_ref();
        let mut words = command.split_whitespace();
        let name = words.next().unwrap_or("");
        let flags: Vec<&str> = words.collect();
        if !flags.is_empty() && name != "create" {
            return Err(Error::BadArgument(format!("{name} takes no flags")));
        }
        match name {
            "create" => {
                let made = self.create_with(path, value, &super::Acl::open(), mode(&flags)?)?;
                Ok(Reply::Created(made.0, made.1))
            }
            "ensure" => self.ensure(path).map(|()| Reply::Nothing),
            "delete" => self.delete_version(path, version(value)?).map(|()| Reply::Nothing),
            "deleteall" => self.delete_all(path).map(|()| Reply::Nothing),
            "exists" => self.exists(path).map(Reply::Stat),
            "get" => self.get(path).map(|(data, stat)| Reply::Data(data, stat)),
            "set" => self.set(path, value).map(|stat| Reply::Stat(Some(stat))),
            "ls" => self.pipelined().children(path).wait().map(|(names, stat)| Reply::Children(names, stat)),
            "getAcl" => self.get_acl(path).map(|(list, stat)| Reply::Acl(list, stat)),
            "sync" => self.sync(path).map(|()| Reply::Nothing),
            "count" => self.count_all(path).map(Reply::Count),
            "whoami" => self.who_am_i().map(Reply::Identities),
            _ => Err(Error::BadArgument(format!("{name:?} is no command; there are {NAMES}"))),
        }
    }
}

fn mode(flags: &[&str]) -> Result<CreateMode, Error> {
    let mut known = flags.to_vec();
    known.sort_unstable();
    match known[..] {
        [] => Ok(CreateMode::Persistent),
        ["-e"] => Ok(CreateMode::Ephemeral),
        ["-s"] => Ok(CreateMode::PersistentSequential),
        ["-e", "-s"] => Ok(CreateMode::EphemeralSequential),
        ["-c"] => Ok(CreateMode::Container),
        _ => Err(Error::BadArgument(format!("create does not take {}", flags.join(" ")))),
    }
}

fn version(value: &[u8]) -> Result<i32, Error> {
    if value.is_empty() {
        return Ok(-1);
    }
    let number = std::str::from_utf8(value).ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| Error::BadArgument("a version is a number".to_owned()))
}
