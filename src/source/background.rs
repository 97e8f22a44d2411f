//! Work that needs a CPU for as long as a large policy takes: reading it, compiling it, letting it go.
//! Must not keep those waiting who move bytes, nor be asked for what is done in a moment: it costs a thread each time.
//! Called by the watch.

use std::thread;

use rustix::process::setpriority_process;
use tokio::sync::oneshot;

/// Does the work behind everybody else's: on a thread of its own, because what a thread has given up of its priority it
/// cannot take back. It is done also where nobody waits for it. Nothing comes back if it panicked, or if there is no thread.
pub(super) fn in_the_background<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> oneshot::Receiver<T> {
    let (done, result) = oneshot::channel();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Of this thread alone. Whoever forbids it gets the work done all the same.
        let _ = setpriority_process(None, LOW);
        let _ = done.send(work());
    });
    if let Err(error) = thread {
        tracing::debug!(%error, "no thread to {name} a policy");
    }
    result
}

/// A tenth of the weight of a usual thread.
const LOW: i32 = 10;

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn it_is_done_behind_the_others_and_its_panic_ends_nothing_else() {
        let before = getpriority_process(None).unwrap();
        let priority = in_the_background("test", || getpriority_process(None).unwrap()).await;
        assert_eq!(priority, Ok(LOW.max(before)));
        assert_eq!(getpriority_process(None).unwrap(), before, "this thread is as it was");
        let nothing = in_the_background("test", move || assert!(before > 99, "as a bug would")).await;
        assert!(nothing.is_err());
    }
}
