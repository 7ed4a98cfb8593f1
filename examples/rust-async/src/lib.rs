//! Plugins of asyncnbd's asynchronous thread model, in Rust: a type that is a [`Plugin`], one that is
//! an [`Export`], and [`plugin!`] to make a library of them that the server opens.
//!
//! A request is a value. Answering takes it, so it is answered once; dropping it, also by a panic,
//! answers it with `EIO`. Panics are logged and never leave the library.

mod callbacks;
mod request;
pub mod sys;

pub use callbacks::{extension, Table};
pub use request::{
    Batch, Extent, ExtentsRequest, FlushRequest, ReadRequest, TrimRequest, WriteRequest, ZeroRequest,
};

use std::ffi::{CStr, CString};

/// The errors of the protocol that a plugin may need, with Linux's numbers.
pub mod errno {
    pub const EPERM: i32 = 1;
    pub const EIO: i32 = 5;
    pub const ENOMEM: i32 = 12;
    pub const EINVAL: i32 = 22;
    pub const ENOSPC: i32 = 28;
    pub const ENOTSUP: i32 = 95;
}

/// An error of anything but a request: the message for the log, and the errno for the client.
#[derive(Debug)]
pub struct Error {
    pub errno: i32,
    pub message: String,
}

impl Error {
    pub fn new(errno: i32, message: impl Into<String>) -> Self {
        Error { errno, message: message.into() }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Error::new(error.raw_os_error().unwrap_or(errno::EIO), error.to_string())
    }
}

pub type Result<T> = std::result::Result<T, Error>;

/// The plugin of a server. It is made before its first parameter and dropped after its last client;
/// each server in a process has its own.
pub trait Plugin: Default + Send + Sync + 'static {
    type Export: Export;

    /// One line for each parameter, for `--help`. It must end with a zero byte, or the plugin does not compile.
    const CONFIG_HELP: &'static str = "\0";

    /// A parameter of the command line, in order.
    fn config(&mut self, key: &str, value: &str) -> Result<()>;

    /// After the last parameter.
    fn config_complete(&mut self) -> Result<()> {
        Ok(())
    }

    /// In the process that will serve: start threads here.
    fn after_fork(&mut self) -> Result<()> {
        Ok(())
    }

    /// After the last client: stop threads here.
    fn cleanup(&mut self) {}

    /// A client has chosen the export of this name, "" for the default one.
    fn open(&self, name: &str, readonly: bool) -> Result<Self::Export>;
}

/// A client's open export. Any number of calls may run at once, and none should block: it passes
/// the request on, or answers it. If the server has given up waiting for an answer, the export is
/// dropped while requests of its client are still outstanding.
pub trait Export: Send + Sync + 'static {
    const CAN_WRITE: bool = false;
    const CAN_FLUSH: bool = false;
    const CAN_TRIM: bool = false;
    const CAN_ZERO: bool = false;
    const CAN_EXTENTS: bool = false;
    /// One client may have several connections, and a flush on one covers all.
    const CAN_MULTI_CONN: bool = false;

    /// Bytes.
    fn size(&self) -> Result<u64>;

    fn read(&self, request: ReadRequest);

    fn write(&self, request: WriteRequest) {
        request.fail(errno::ENOTSUP);
    }

    fn flush(&self, request: FlushRequest) {
        request.fail(errno::ENOTSUP);
    }

    fn trim(&self, request: TrimRequest) {
        request.fail(errno::ENOTSUP);
    }

    fn zero(&self, request: ZeroRequest) {
        request.fail(errno::ENOTSUP);
    }

    fn extents(&self, request: ExtentsRequest) {
        request.fail(errno::ENOTSUP);
    }
}

/// Once in a library: `nbdkit_async::plugin!(Disk, "disk");`
#[macro_export]
macro_rules! plugin {
    ($plugin:ty, $name:literal) => {
        static NBDKIT_ASYNC_TABLE: $crate::Table =
            $crate::Table::of::<$plugin>(concat!($name, "\0"));
        static NBDKIT_ASYNC_EXTENSION: $crate::sys::Extension =
            $crate::extension(&NBDKIT_ASYNC_TABLE);

        #[no_mangle]
        pub extern "C" fn plugin_init() -> *mut $crate::sys::Plugin {
            NBDKIT_ASYNC_TABLE.pointer()
        }

        #[no_mangle]
        pub extern "C" fn asyncnbd_plugin_init() -> *const $crate::sys::Extension {
            &NBDKIT_ASYNC_EXTENSION
        }
    };
}

/// Logs one error line.
pub fn log_error(message: &str) {
    let text = c_string(message);
    unsafe { sys::nbdkit_error(b"%s\0".as_ptr().cast(), text.as_ptr()) };
}

/// Logs one line with `--verbose`.
pub fn log_debug(message: &str) {
    let text = c_string(message);
    unsafe { sys::nbdkit_debug(b"%s\0".as_ptr().cast(), text.as_ptr()) };
}

/// Bytes from "64M" and the like.
pub fn parse_size(text: &str) -> Result<u64> {
    let size = unsafe { sys::nbdkit_parse_size(c_string(text).as_ptr()) };
    u64::try_from(size).map_err(|_| Error::new(errno::EINVAL, format!("{text}: not a size")))
}

/// Drops bytes that a C string cannot contain.
fn c_string(text: &str) -> CString {
    CString::new(text.replace('\0', "")).unwrap_or_default()
}

/// The text at a pointer that the server gives, which lives as long as the call.
unsafe fn text<'a>(pointer: *const std::os::raw::c_char) -> Result<&'a str> {
    if pointer.is_null() {
        return Ok("");
    }
    let text = CStr::from_ptr(pointer).to_str();
    text.map_err(|_| Error::new(errno::EINVAL, "a text is not UTF-8"))
}
