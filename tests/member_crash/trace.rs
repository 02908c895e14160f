//! What real code does to the files of a directory, call by call.
//!
//! The standard library reaches the system through functions of the C library. This program has its own of those that change files: they do the
//! same, and write it down while the thread that calls them is being watched. Nothing waits for the real disk meanwhile.

#![allow(unsafe_code)]

use libc::{SYS_ftruncate, SYS_openat, SYS_renameat, SYS_unlinkat, SYS_write};
use libc::{c_char, c_int, c_void, mode_t, off64_t, size_t, ssize_t, syscall};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CStr;
use std::path::Path;

/// One change.
#[derive(Clone, Debug)]
pub enum Op {
    Create(String),
    Resize(String, usize),
    Write(String, usize, Vec<u8>),
    Sync(String),
    Rename(String, String),
    Remove(String),
    SyncDir,
}

struct Trace {
    dir: String,
    /// Open files with how far they are written; the directory itself has no name.
    files: HashMap<c_int, (String, usize)>,
    ops: Vec<Op>,
}

thread_local! {
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Does it, and tells what it changed in `dir`.
pub fn traced<T>(dir: &Path, work: impl FnOnce() -> T) -> (T, Vec<Op>) {
    let dir = dir.to_str().expect("a path in UTF-8").to_owned();
    TRACE.set(Some(Trace { dir, files: HashMap::new(), ops: Vec::new() }));
    let result = work();
    let ops = TRACE.take().map(|trace| trace.ops).unwrap_or_default();
    (result, ops)
}

fn watched<T>(with: impl FnOnce(&mut Trace) -> Option<T>) -> Option<T> {
    TRACE.try_with(|trace| with(trace.try_borrow_mut().ok()?.as_mut()?)).ok().flatten()
}

impl Trace {
    /// Its name in the directory; empty for the directory.
    fn name(&self, path: &CStr) -> Option<String> {
        let inside = path.to_str().ok()?.strip_prefix(&self.dir)?;
        Some(inside.trim_start_matches('/').to_owned())
    }
}

fn name_of(path: *const c_char) -> Option<String> {
    // SAFETY: whoever calls a function of the C library gives a string that ends with a zero.
    let path = unsafe { CStr::from_ptr(path) };
    watched(|trace| trace.name(path))
}

/// SAFETY: the system call has the arguments of the function, checked by the kernel; the C library's `syscall` sets errno.
macro_rules! call {
    ($($argument:expr),+) => { unsafe { syscall($($argument),+) } };
}

#[unsafe(no_mangle)]
extern "C" fn open64(path: *const c_char, flags: c_int, mode: mode_t) -> c_int {
    let name = name_of(path);
    let existed = name.is_some() && {
        let found = call!(SYS_openat, libc::AT_FDCWD, path, libc::O_PATH | libc::O_CLOEXEC, 0) as c_int;
        if found >= 0 {
            call!(libc::SYS_close, found);
        }
        found >= 0
    };
    let fd = call!(SYS_openat, libc::AT_FDCWD, path, flags, mode) as c_int;
    if let Some(name) = name.filter(|_| fd >= 0) {
        watched(|trace| {
            if !existed {
                trace.ops.push(Op::Create(name.clone()));
            } else if flags & libc::O_TRUNC != 0 {
                trace.ops.push(Op::Resize(name.clone(), 0));
            }
            trace.files.insert(fd, (name, 0));
            Some(())
        });
    } else if fd >= 0 {
        watched(|trace| trace.files.remove(&fd));
    }
    fd
}

#[unsafe(no_mangle)]
extern "C" fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
    let written = call!(SYS_write, fd, bytes, count) as ssize_t;
    if written > 0 {
        watched(|trace| {
            let (name, at) = trace.files.get_mut(&fd)?;
            // SAFETY: the kernel has just read so many bytes there.
            let bytes = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), written as usize) };
            trace.ops.push(Op::Write(name.clone(), *at, bytes.to_vec()));
            *at += bytes.len();
            Some(())
        });
    }
    written
}

#[unsafe(no_mangle)]
extern "C" fn ftruncate64(fd: c_int, bytes: off64_t) -> c_int {
    let done = call!(SYS_ftruncate, fd, bytes) as c_int;
    if done == 0 {
        watched(|trace| {
            let (name, _) = trace.files.get(&fd)?;
            trace.ops.push(Op::Resize(name.clone(), bytes as usize));
            Some(())
        });
    }
    done
}

#[unsafe(no_mangle)]
extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    let names = name_of(from).zip(name_of(to));
    let done = call!(SYS_renameat, libc::AT_FDCWD, from, libc::AT_FDCWD, to) as c_int;
    if let Some((from, to)) = names.filter(|_| done == 0) {
        watched(|trace| {
            trace.ops.push(Op::Rename(from, to));
            Some(())
        });
    }
    done
}

#[unsafe(no_mangle)]
extern "C" fn unlink(path: *const c_char) -> c_int {
    let name = name_of(path);
    let done = call!(SYS_unlinkat, libc::AT_FDCWD, path, 0) as c_int;
    if let Some(name) = name.filter(|_| done == 0) {
        watched(|trace| {
            trace.ops.push(Op::Remove(name));
            Some(())
        });
    }
    done
}

#[unsafe(no_mangle)]
extern "C" fn fsync(fd: c_int) -> c_int {
    synced(fd).unwrap_or_else(|| call!(libc::SYS_fsync, fd) as c_int)
}

#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: c_int) -> c_int {
    synced(fd).unwrap_or_else(|| call!(libc::SYS_fdatasync, fd) as c_int)
}

fn synced(fd: c_int) -> Option<c_int> {
    watched(|trace| {
        let (name, _) = trace.files.get(&fd)?;
        trace.ops.push(if name.is_empty() { Op::SyncDir } else { Op::Sync(name.clone()) });
        Some(0)
    })
}
