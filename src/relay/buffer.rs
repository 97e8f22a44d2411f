//! The buffers of the relay: borrowed for a read, given back as soon as their bytes are written.
//! Must not be held by a tunnel that waits for its peer to send. Each thread keeps a few of each size.
//! Called by the copy loop only.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The three sizes: 16, 64 and 256 KiB. Larger ones only pay for flows that keep filling them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    Middle,
    Large,
}

/// A borrowed buffer. Dropping it gives it back to the thread that drops it.
#[derive(Debug)]
pub(super) struct Lease {
    bytes: Box<[u8]>,
}

impl Size {
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::Small => SMALL,
            Self::Middle => MIDDLE,
            Self::Large => LARGE,
        }
    }

    pub(super) const fn larger(self) -> Self {
        match self {
            Self::Small => Self::Middle,
            Self::Middle | Self::Large => Self::Large,
        }
    }

    pub(super) const fn smaller(self) -> Self {
        match self {
            Self::Large => Self::Middle,
            Self::Middle | Self::Small => Self::Small,
        }
    }

    /// How many a thread keeps for later: 1 MiB of each size.
    const fn kept(self) -> usize {
        (1 << 20) / self.bytes()
    }
}

/// Borrows a buffer of that size, or a small one where too many larger ones are out.
pub(super) fn borrow(size: Size) -> Lease {
    let size = if size != Size::Small && !reserve(size.bytes()) {
        Size::Small
    } else {
        size
    };
    let kept = POOL.with_borrow_mut(|pool| pool.free(size).take());
    #[cfg(test)]
    LEASED.with(|leased| leased.set(leased.get() + 1));
    Lease {
        bytes: kept.unwrap_or_else(|| vec![0; size.bytes()].into_boxed_slice()),
    }
}

/// Frees the buffers of this thread that nobody has borrowed since this was last called.
pub(super) fn trim() {
    POOL.with_borrow_mut(|pool| [&mut pool.small, &mut pool.middle, &mut pool.large].map(Free::trim));
}

impl Lease {
    pub(super) fn size(&self) -> Size {
        match self.bytes.len() {
            ..MIDDLE => Size::Small,
            MIDDLE..LARGE => Size::Middle,
            LARGE.. => Size::Large,
        }
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let size = self.size();
        let bytes = std::mem::take(&mut self.bytes);
        if size != Size::Small {
            LARGER_OUT.fetch_sub(bytes.len(), Ordering::Relaxed);
        }
        #[cfg(test)]
        LEASED.with(|leased| leased.set(leased.get() - 1));
        // While a thread ends its pool is gone; then the buffer is just freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            let free = pool.free(size);
            if free.buffers.len() < size.kept() {
                free.buffers.push(bytes);
            }
        });
    }
}

/// Free buffers of one thread.
#[derive(Default)]
struct Pool {
    small: Free,
    middle: Free,
    large: Free,
}

/// Those of one size. The last ones are used first.
#[derive(Default)]
struct Free {
    buffers: Vec<Box<[u8]>>,
    /// How many of them nobody has needed since the last trim.
    unused: usize,
}

impl Free {
    fn take(&mut self) -> Option<Box<[u8]>> {
        let buffer = self.buffers.pop();
        self.unused = self.unused.min(self.buffers.len());
        buffer
    }

    fn trim(&mut self) {
        self.buffers.drain(..self.unused.min(self.buffers.len()));
        self.unused = self.buffers.len();
    }
}

impl Pool {
    fn free(&mut self, size: Size) -> &mut Free {
        match size {
            Size::Small => &mut self.small,
            Size::Middle => &mut self.middle,
            Size::Large => &mut self.large,
        }
    }
}

/// Counts a larger buffer as out, unless that would be too much.
fn reserve(bytes: usize) -> bool {
    LARGER_OUT
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |out| {
            let out = out + bytes;
            (out <= LARGER_LIMIT).then_some(out)
        })
        .is_ok()
}

const SMALL: usize = 16 << 10;
const MIDDLE: usize = 64 << 10;
const LARGE: usize = 256 << 10;

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
    #[cfg(test)]
    static LEASED: std::cell::Cell<isize> = const { std::cell::Cell::new(0) };
}

/// Bytes in middle and large buffers that are out, in the whole process. A peer that does not read keeps one out for
/// as long as it likes; this bounds what thousands of them can hold beyond 16 KiB each.
static LARGER_OUT: AtomicUsize = AtomicUsize::new(0);
const LARGER_LIMIT: usize = 32 << 20;

/// Leases of this thread that were not dropped on it yet.
#[cfg(test)]
pub(super) fn leased() -> isize {
    LEASED.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn free() -> [usize; 3] {
        POOL.with_borrow(|pool| [&pool.small, &pool.middle, &pool.large].map(|free| free.buffers.len()))
    }

    #[test]
    fn buffers_that_nobody_needs_are_freed() {
        let sizes = [Size::Small, Size::Middle, Size::Large];
        drop(sizes.map(|size| [borrow(size), borrow(size), borrow(size)]));
        trim();
        assert_eq!(free(), [3; 3], "all were needed since the last time");
        drop([borrow(Size::Small), borrow(Size::Small), borrow(Size::Large)]);
        trim();
        assert_eq!(free(), [2, 0, 1]);
        trim();
        assert_eq!(free(), [0; 3]);
    }
}
