//! Who may do what: getAcl, setAcl, addauth, whoami.

use super::Shell;
use super::answer::{Answer, PERMISSIONS};
use super::args::Args;
use super::failure::{Failure, keeper_message};
use super::nodes::{path_of, wait, walk};
use super::screen::Screen;
use crate::client::{Acl, Error};

/// `scheme:id:permissions`, several by commas. What is not understood is said and left out, as zkCli does.
pub(super) fn parse_acl(text: &str, screen: &Screen) -> Result<Vec<Acl>, Failure> {
    let mut list = Vec::new();
    for entry in text.split(',') {
        let parts = entry.split_once(':').and_then(|(scheme, rest)| rest.rsplit_once(':').map(|(id, perms)| (scheme, id, perms)));
        let Some((scheme, id, letters)) = parts else {
            screen.remark(&format!("{entry} does not have the form scheme:id:perm"));
            continue;
        };
        let mut perms = 0;
        for letter in letters.chars() {
            match PERMISSIONS.iter().find(|(known, _)| *known == letter) {
                Some((_, bit)) => perms |= bit,
                None => screen.remark(&format!("Unknown perm type: {letter}")),
            }
        }
        list.push(Acl { perms, scheme: scheme.to_owned(), id: id.to_owned() });
    }
    if list.is_empty() { Err(Failure::new("Acl is not valid : null")) } else { Ok(list) }
}

pub(super) fn get_acl(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let path = path_of(args);
    let (list, stat) = wait(path, shell.client()?.pipelined().get_acl(path))?;
    Ok(Answer::Acl(list, args.has("s").then_some(stat)))
}

pub(super) fn set_acl(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let (path, version) = (path_of(args), args.version()?);
    let list = parse_acl(&args.plain[1], &shell.screen)?;
    if args.has("R") {
        return set_acl_of_all(shell, path, &list, version);
    }
    let stat = wait(path, shell.client()?.pipelined().set_acl(path, &list, version))?;
    Ok(if args.has("s") { Answer::Stat(stat) } else { Answer::Nothing })
}

/// A node that does not take it is said, and the others still get it.
fn set_acl_of_all(shell: &mut Shell, root: &str, list: &[Acl], version: i32) -> Result<Answer, Failure> {
    let client = shell.client()?.clone();
    wait(root, client.pipelined().get(root))?;
    let screen = shell.screen.clone();
    let set = |path: &str| {
        if let Err(why) = client.pipelined().set_acl(path, list, version).wait() {
            screen.complain(&refusal(path, &why));
        }
    };
    set(root);
    walk(shell, root, false, &mut |path| set(path))?;
    Ok(Answer::Nothing)
}

fn refusal(path: &str, why: &Error) -> String {
    match why.code() {
        Some(crate::client::ErrorCode::InvalidAcl) => keeper_message("InvalidACL", Some(path)),
        _ => Failure::at(path, why).message,
    }
}

pub(super) fn add_auth(shell: &mut Shell, args: &Args) -> Result<Answer, Failure> {
    let auth = args.plain.get(1).map_or("", String::as_str);
    shell.client()?.add_auth(path_of(args), auth.as_bytes()).map_err(|why| Failure::of(&why))?;
    Ok(Answer::Nothing)
}

pub(super) fn who_am_i(shell: &mut Shell, _: &Args) -> Result<Answer, Failure> {
    shell.client()?.who_am_i().map(Answer::Identities).map_err(|why| Failure::of(&why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Format;

    #[test]
    fn lists_are_read_entry_by_entry_and_ids_may_have_colons() {
        let acl = |perms, scheme: &str, id: &str| Acl { perms, scheme: scheme.into(), id: id.into() };
        let parse = |text| parse_acl(text, &Screen::new(Format::Text));
        assert_eq!(parse("world:anyone:cdrwa,digest:x:y:r"), Ok(vec![acl(31, "world", "anyone"), acl(1, "digest", "x:y")]));
        assert_eq!(parse("auth::rw,nonsense,a:b"), Ok(vec![acl(3, "auth", "")]));
        assert_eq!(parse("nonsense").map_err(|why| why.message), Err("Acl is not valid : null".to_owned()));
    }
}
