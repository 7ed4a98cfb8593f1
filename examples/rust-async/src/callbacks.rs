//! The functions that the server calls. No panic leaves them.

use std::any::Any;
use std::cell::UnsafeCell;
use std::os::raw::{c_char, c_int, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::{mem, ptr};

use crate::request::Call;
use crate::{errno, log_error, sys, text, Error, Export, Plugin, Result};

/// The table of a plugin, in memory that lives as long as the library.
#[repr(transparent)]
pub struct Table(UnsafeCell<sys::Plugin>);

// The server only reads it.
unsafe impl Sync for Table {}

impl Table {
    /// Panics unless `name` and `CONFIG_HELP` end with a zero byte; in a static, that is a
    /// compile error.
    pub const fn of<P: Plugin>(name: &'static str) -> Table {
        let mut table = with_exports_callbacks::<P>();
        table.name = ended(name);
        table.config_help = ended(P::CONFIG_HELP);
        table.unload = Some(unload::<P>);
        table.config = Some(config::<P>);
        table.config_complete = Some(config_complete::<P>);
        table.after_fork = Some(after_fork::<P>);
        table.cleanup = Some(cleanup::<P>);
        table.open = Some(open::<P>);
        table.close = Some(close::<P>);
        Table(UnsafeCell::new(table))
    }

    pub fn pointer(&self) -> *mut sys::Plugin {
        self.0.get()
    }
}

/// For C, which reads up to the zero byte.
const fn ended(text: &'static str) -> *const c_char {
    let bytes = text.as_bytes();
    assert!(
        !bytes.is_empty() && bytes[bytes.len() - 1] == 0,
        "the plugin's name and its CONFIG_HELP must end with a zero byte: add \\0"
    );
    text.as_ptr() as *const c_char
}

// It is never written to.
unsafe impl Sync for sys::Extension {}

/// The part of a table that only asyncnbd sees.
pub const fn extension(table: &'static Table) -> sys::Extension {
    let start = table as *const Table as *const u8;
    sys::Extension {
        _struct_size: mem::size_of::<sys::Extension>() as u32,
        _thread_model: sys::THREAD_MODEL_ASYNC,
        _callbacks_size: (mem::size_of::<sys::Plugin>() - sys::NBDKIT_FIELDS_BYTES) as u64,
        _callbacks: unsafe { start.add(sys::NBDKIT_FIELDS_BYTES) } as *const c_void,
    }
}

const fn with_exports_callbacks<P: Plugin>() -> sys::Plugin {
    // All of its fields may be zero: numbers, pointers, and missing functions.
    let mut table: sys::Plugin = unsafe { mem::transmute([0u8; mem::size_of::<sys::Plugin>()]) };
    table._struct_size = sys::NBDKIT_FIELDS_BYTES as u64;
    table._api_version = sys::API_VERSION;
    table._thread_model = sys::THREAD_MODEL_PARALLEL;
    table.instance_bytes = mem::size_of::<*mut P>() as u64;
    table.get_size = Some(get_size::<P>);
    table.can_multi_conn = Some(can_multi_conn::<P>);
    table.async_pread = Some(read::<P>);
    if P::Export::CAN_WRITE {
        table.async_pwrite = Some(write::<P>);
    }
    if P::Export::CAN_FLUSH {
        table.async_flush = Some(flush::<P>);
    }
    if P::Export::CAN_TRIM {
        table.async_trim = Some(trim::<P>);
    }
    if P::Export::CAN_ZERO {
        table.async_zero = Some(zero::<P>);
    }
    if P::Export::CAN_EXTENTS {
        table.async_extents = Some(extents::<P>);
    }
    table
}

/// The message of a panic, if it is a text.
fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| text.to_string());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".into())
}

/// Drops the payload of a panic. If that panics in turn, the new payload is leaked.
pub(crate) fn discard(panic: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
        mem::forget(again);
    }
}

/// None: the call has failed or panicked; that has been logged, and the client's errno is set.
fn guarded<T>(what: &str, call: impl FnOnce() -> Result<T>) -> Option<T> {
    let result = catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|panic| {
        let message = format!("a panic: {}", words(panic.as_ref()));
        discard(panic);
        Err(Error::new(errno::EIO, message))
    });
    result
        .map_err(|error| {
            log_error(&format!("{what}: {}", error.message));
            unsafe { sys::nbdkit_set_error(error.errno) };
        })
        .ok()
}

fn status(result: Option<()>) -> c_int {
    if result.is_some() {
        0
    } else {
        -1
    }
}

/// The plugin of the calling server; the first call makes it. Calls that run alone in their server may
/// change it; others, such as `open`, share it.
unsafe fn plugin<P: Plugin>() -> *mut P {
    let place = sys::asyncnbd_instance().cast::<*mut P>();
    if (*place).is_null() {
        *place = Box::into_raw(Box::new(P::default()));
    }
    *place
}

unsafe extern "C" fn unload<P: Plugin>() {
    guarded("unload", || {
        let place = sys::asyncnbd_instance().cast::<*mut P>();
        let made = mem::replace(&mut *place, ptr::null_mut());
        if !made.is_null() {
            drop(Box::from_raw(made));
        }
        Ok(())
    });
}

unsafe extern "C" fn config<P: Plugin>(key: *const c_char, value: *const c_char) -> c_int {
    status(guarded("config", || (*plugin::<P>()).config(text(key)?, text(value)?)))
}

unsafe extern "C" fn config_complete<P: Plugin>() -> c_int {
    status(guarded("config_complete", || (*plugin::<P>()).config_complete()))
}

unsafe extern "C" fn after_fork<P: Plugin>() -> c_int {
    status(guarded("after_fork", || (*plugin::<P>()).after_fork()))
}

unsafe extern "C" fn cleanup<P: Plugin>() {
    guarded("cleanup", || {
        (*plugin::<P>()).cleanup();
        Ok(())
    });
}

unsafe extern "C" fn open<P: Plugin>(readonly: c_int) -> *mut c_void {
    let opened = guarded("open", || {
        let plugin: &P = &*plugin::<P>(); // shared: several clients may open it at once
        plugin.open(text(sys::nbdkit_export_name())?, readonly != 0)
    });
    opened.map_or(ptr::null_mut(), |export| Box::into_raw(Box::new(export)).cast())
}

unsafe extern "C" fn close<P: Plugin>(handle: *mut c_void) {
    guarded("close", || {
        drop(Box::from_raw(handle.cast::<P::Export>()));
        Ok(())
    });
}

unsafe fn export<'a, P: Plugin>(handle: *mut c_void) -> &'a P::Export {
    &*handle.cast::<P::Export>()
}

unsafe extern "C" fn get_size<P: Plugin>(handle: *mut c_void) -> i64 {
    guarded("get_size", || export::<P>(handle).size()).map_or(-1, |size| size as i64)
}

unsafe extern "C" fn can_multi_conn<P: Plugin>(_handle: *mut c_void) -> c_int {
    P::Export::CAN_MULTI_CONN.into()
}

/// 0: the request has been answered, at the latest when it was dropped, or its new owner will answer it.
fn serve(command: &str, call: impl FnOnce()) -> c_int {
    guarded(command, || {
        call();
        Ok(())
    });
    0
}

const fn fua(flush: bool) -> u32 {
    if flush {
        sys::FLAG_FUA
    } else {
        0
    }
}

unsafe extern "C" fn read<P: Plugin>(
    conn: *mut c_void, reqid: u64, flush: bool, handle: *mut c_void, buf: *mut c_void, count: u32,
    offset: u64,
) -> c_int {
    let request = Call { conn, reqid, flags: fua(flush), count, offset }.read(buf);
    serve("read", || export::<P>(handle).read(request))
}

unsafe extern "C" fn write<P: Plugin>(
    conn: *mut c_void, reqid: u64, flush: bool, handle: *mut c_void, buf: *const c_void, count: u32,
    offset: u64,
) -> c_int {
    let request = Call { conn, reqid, flags: fua(flush), count, offset }.write(buf);
    serve("write", || export::<P>(handle).write(request))
}

unsafe extern "C" fn flush<P: Plugin>(
    conn: *mut c_void, reqid: u64, handle: *mut c_void) -> c_int {
    let request = Call { conn, reqid, flags: 0, count: 0, offset: 0 }.flush();
    serve("flush", || export::<P>(handle).flush(request))
}

unsafe extern "C" fn trim<P: Plugin>(
    conn: *mut c_void, reqid: u64, flush: bool, handle: *mut c_void, count: u32, offset: u64,
) -> c_int {
    let request = Call { conn, reqid, flags: fua(flush), count, offset }.trim();
    serve("trim", || export::<P>(handle).trim(request))
}

unsafe extern "C" fn zero<P: Plugin>(
    conn: *mut c_void, reqid: u64, flush: bool, handle: *mut c_void, count: u32, offset: u64,
    flags: u32,
) -> c_int {
    let request = Call { conn, reqid, flags: flags | fua(flush), count, offset }.zero();
    serve("zero", || export::<P>(handle).zero(request))
}

unsafe extern "C" fn extents<P: Plugin>(
    conn: *mut c_void, reqid: u64, handle: *mut c_void, count: u32, offset: u64, flags: u32,
    extents: *mut sys::Extents,
) -> c_int {
    let request = Call { conn, reqid, flags, count, offset }.extents(extents);
    serve("extents", || export::<P>(handle).extents(request))
}
