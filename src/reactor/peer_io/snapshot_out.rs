//! Images of the tree for learners: written by a thread, sent by the link's task (C3).

use super::pipe::{TaskEnd, ThreadEnd, pipe};
use crate::reactor::{AbortOnPanic, lower_priority};
use crate::storage::snapshot_stream::SIGNATURE;
use crate::tree::Image;
use std::io;

/// Begins to write an image; the end that is returned gives its stream, signature included.
pub fn send_image(image: Image) -> io::Result<TaskEnd> {
    let (task, thread) = pipe();
    std::thread::Builder::new().name("zoo-image".into()).spawn(move || {
        let _guard = AbortOnPanic;
        lower_priority();
        let zxid = image.zxid();
        if let Err(e) = write_image(image, thread) {
            tracing::debug!("the image at {zxid} for a learner was not sent to its end: {e}");
        }
    })?;
    Ok(task)
}

fn write_image(mut image: Image, to: ThreadEnd) -> io::Result<()> {
    let broken = |_| io::Error::other("the learner is gone");
    image.write(&mut |piece| to.send(piece.to_vec()).map_err(broken))?;
    to.send(SIGNATURE.to_vec()).map_err(broken)?;
    to.finish();
    Ok(())
}
