//! Requests: values that are answered once, on any thread, and with `EIO` if they are dropped.

use std::os::raw::c_void;
use std::panic::{catch_unwind, AssertUnwindSafe};

use crate::callbacks::discard;
use crate::{errno, log_error, sys};

/// A request that must be answered by its owner.
struct Unanswered {
    conn: *mut c_void,
    reqid: u64,
    command: &'static str,
}

// The server takes answers on any thread, and buffers stay where they are until then.
unsafe impl Send for Unanswered {}

impl Unanswered {
    /// The server's id of the request; the caller must answer it.
    fn take(self) -> (*mut c_void, u64) {
        let id = (self.conn, self.reqid);
        std::mem::forget(self);
        id
    }

    fn done(self) -> bool {
        let (conn, reqid) = self.take();
        unsafe { sys::nbdkit_async_reply(conn, reqid) == 0 }
    }

    fn fail(self, errno: i32) -> bool {
        let (conn, reqid) = self.take();
        unsafe { sys::nbdkit_async_reply_errno(conn, reqid, errno) == 0 }
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        log_error(&format!("{}: a request was dropped without an answer: the client gets EIO",
            self.command));
        unsafe { sys::nbdkit_async_reply_errno(self.conn, self.reqid, errno::EIO) };
    }
}

/// The range of a request: `count` bytes of the disk from `offset` on, never 0.
#[derive(Clone, Copy)]
struct Range {
    offset: u64,
    count: u32,
    flags: u32,
}

macro_rules! requests {
    ($($name:ident)*) => { $(
        impl $name {
            /// Bytes from the beginning of the disk.
            pub fn offset(&self) -> u64 {
                self.range.offset
            }

            /// Bytes.
            pub fn count(&self) -> usize {
                self.range.count as usize
            }

            /// Whether the client wants it on stable storage before the answer.
            pub fn fua(&self) -> bool {
                self.range.flags & sys::FLAG_FUA != 0
            }

            /// The client gets this errno. False: it has gone, or the server has given up waiting.
            pub fn fail(self, errno: i32) -> bool {
                self.unanswered.fail(errno)
            }
        }
    )* };
}

macro_rules! done {
    ($($name:ident)*) => { $(
        impl $name {
            /// Success. False: the client has gone, or the server has given up waiting.
            pub fn done(self) -> bool {
                self.unanswered.done()
            }
        }
    )* };
}

requests! { ReadRequest WriteRequest FlushRequest TrimRequest ZeroRequest ExtentsRequest }
done! { WriteRequest FlushRequest TrimRequest ZeroRequest }

/// Up to 64 MiB.
pub struct ReadRequest {
    unanswered: Unanswered,
    range: Range,
    buffer: *mut u8,
}

/// Up to 64 MiB.
pub struct WriteRequest {
    unanswered: Unanswered,
    range: Range,
    data: *const u8,
}

/// Covers the writes that were answered before it arrived. It has no range.
pub struct FlushRequest {
    unanswered: Unanswered,
    range: Range,
}

pub struct TrimRequest {
    unanswered: Unanswered,
    range: Range,
}

/// `fail(errno::ENOTSUP)` has the server write zeroes, unless the client wants a fast zero.
pub struct ZeroRequest {
    unanswered: Unanswered,
    range: Range,
}

pub struct ExtentsRequest {
    unanswered: Unanswered,
    range: Range,
    extents: *mut sys::Extents,
    next: u64,
    has_failed: bool,
}

// As for Unanswered: until the answer, only the request owns the memory.
unsafe impl Send for ReadRequest {}
unsafe impl Send for WriteRequest {}
unsafe impl Send for ExtentsRequest {}

impl ReadRequest {
    /// Fill it for [`done`](Self::done). It has zeroes or old data.
    pub fn buffer(&mut self) -> &mut [u8] {
        // The server has initialised it, and does not touch it before the answer.
        unsafe { std::slice::from_raw_parts_mut(self.buffer, self.range.count as usize) }
    }

    /// The data is in the buffer.
    pub fn done(self) -> bool {
        let (data, count) = (self.buffer, self.range.count);
        let (conn, reqid) = self.unanswered.take();
        unsafe { sys::nbdkit_async_reply_read(conn, reqid, count, data.cast()) == 0 }
    }

    /// The data is this. Panics, which gives EIO, if it is not `count` bytes.
    pub fn done_from(self, data: &[u8]) -> bool {
        assert_eq!(data.len(), self.count(), "the data of a read must be all that it asks for");
        let count = self.range.count;
        let (conn, reqid) = self.unanswered.take();
        // It is const in all but the type.
        unsafe {
            sys::nbdkit_async_reply_read(conn, reqid, count, data.as_ptr() as *mut c_void) == 0
        }
    }

    /// The data is sent without a copy from `owner`, from the byte `from` on. The owner is dropped
    /// after that, on any thread.
    pub fn done_lent<T: AsRef<[u8]> + Send + 'static>(self, owner: T, from: usize) -> bool {
        unsafe extern "C" fn release<T>(owner: *mut c_void) {
            let owner = Box::from_raw(owner.cast::<T>());
            // Nobody can be told of a panic here.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(owner))) {
                discard(panic);
            }
        }
        let owner = Lent(Box::into_raw(Box::new(owner)));
        let owned: &T = unsafe { &*owner.0 };
        let data: *const u8 = owned.as_ref()[from..from + self.count()].as_ptr();
        let count = self.range.count;
        let (conn, reqid) = self.unanswered.take();
        let owner = owner.give().cast();
        unsafe {
            sys::nbdkit_async_reply_read_lent(conn, reqid, count, data.cast(), release::<T>, owner)
                == 0
        }
    }
}

/// The owner of lent data until the server has it. Not a Box, because moving a Box ends borrows
/// from it.
struct Lent<T>(*mut T);

impl<T> Lent<T> {
    fn give(self) -> *mut T {
        let owner = self.0;
        std::mem::forget(self);
        owner
    }
}

impl<T> Drop for Lent<T> {
    fn drop(&mut self) {
        drop(unsafe { Box::from_raw(self.0) });
    }
}

impl WriteRequest {
    /// The data to store.
    pub fn data(&self) -> &[u8] {
        unsafe { std::slice::from_raw_parts(self.data, self.range.count as usize) }
    }
}

impl ZeroRequest {
    /// A hole that reads as zeroes is allowed.
    pub fn may_trim(&self) -> bool {
        self.range.flags & sys::FLAG_MAY_TRIM != 0
    }

    /// Fail with ENOTSUP unless it is faster than a write.
    pub fn fast(&self) -> bool {
        self.range.flags & sys::FLAG_FAST_ZERO != 0
    }
}

/// The kind of a part of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    Data,
    /// Allocated, reads as zeroes.
    Zero,
    /// Not allocated, reads as zeroes.
    Hole,
}

impl ExtentsRequest {
    /// The first one is enough.
    pub fn one(&self) -> bool {
        self.range.flags & sys::FLAG_REQ_ONE != 0
    }

    /// Where the next one begins.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// The next `length` bytes, which may go past the range. If the server cannot take them, `done`
    /// says so.
    pub fn add(&mut self, length: u64, extent: Extent) {
        let kind = match extent {
            Extent::Data => 0,
            Extent::Zero => sys::EXTENT_ZERO,
            Extent::Hole => sys::EXTENT_HOLE | sys::EXTENT_ZERO,
        };
        let added = unsafe { sys::nbdkit_add_extent(self.extents, self.next, length, kind) };
        self.has_failed |= added != 0;
        self.next = self.next.saturating_add(length);
    }

    /// Success, or ENOMEM if an extent could not be added. False: the client has gone, or the server
    /// has given up waiting.
    pub fn done(self) -> bool {
        if self.has_failed {
            return self.unanswered.fail(errno::ENOMEM);
        }
        self.unanswered.done()
    }
}

/// While it exists, this thread's answers are collected; they leave together.
pub struct Batch {
    // Neither Send nor Sync: it belongs to a thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Batch {
    #[allow(clippy::new_without_default)] // it has effects, so it is no default
    pub fn new() -> Self {
        unsafe { sys::nbdkit_async_batch_begin() };
        Batch { _thread: std::marker::PhantomData }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        unsafe { sys::nbdkit_async_batch_end() };
    }
}

/// The arguments of a callback from the server.
pub(crate) struct Call {
    pub conn: *mut c_void,
    pub reqid: u64,
    pub flags: u32,
    pub count: u32,
    pub offset: u64,
}

impl Call {
    fn parts(self, command: &'static str) -> (Unanswered, Range) {
        let range = Range { offset: self.offset, count: self.count, flags: self.flags };
        (Unanswered { conn: self.conn, reqid: self.reqid, command }, range)
    }

    pub fn read(self, buffer: *mut c_void) -> ReadRequest {
        let (unanswered, range) = self.parts("read");
        ReadRequest { unanswered, range, buffer: buffer.cast() }
    }

    pub fn write(self, data: *const c_void) -> WriteRequest {
        let (unanswered, range) = self.parts("write");
        WriteRequest { unanswered, range, data: data.cast() }
    }

    pub fn flush(self) -> FlushRequest {
        let (unanswered, range) = self.parts("flush");
        FlushRequest { unanswered, range }
    }

    pub fn trim(self) -> TrimRequest {
        let (unanswered, range) = self.parts("trim");
        TrimRequest { unanswered, range }
    }

    pub fn zero(self) -> ZeroRequest {
        let (unanswered, range) = self.parts("zero");
        ZeroRequest { unanswered, range }
    }

    pub fn extents(self, extents: *mut sys::Extents) -> ExtentsRequest {
        let (unanswered, range) = self.parts("extents");
        ExtentsRequest { unanswered, range, extents, next: range.offset, has_failed: false }
    }
}
