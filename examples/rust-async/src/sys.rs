//! Hand-written declarations of `nbdkit-plugin.h`: the table of callbacks, and the server's functions.
//! A test compares sizes and offsets with the header.

use std::os::raw::{c_char, c_int, c_void};

pub const API_VERSION: c_int = 2;
/// For nbdkit, which does not know the next one.
pub const THREAD_MODEL_PARALLEL: c_int = 3;
pub const THREAD_MODEL_ASYNC: c_int = 4;

pub const FLAG_MAY_TRIM: u32 = 1 << 0;
pub const FLAG_FUA: u32 = 1 << 1;
pub const FLAG_REQ_ONE: u32 = 1 << 2;
pub const FLAG_FAST_ZERO: u32 = 1 << 3;

pub const EXTENT_HOLE: u32 = 1 << 0;
pub const EXTENT_ZERO: u32 = 1 << 1;

/// Opaque.
#[repr(C)]
pub struct Extents {
    _private: [u8; 0],
}

/// A callback that this crate never sets.
type Unused = Option<unsafe extern "C" fn()>;
type Ask = Option<unsafe extern "C" fn(handle: *mut c_void) -> c_int>;

macro_rules! table {
    ($($field:ident: $type:ty,)*) => {
        /// `struct nbdkit_plugin`, for API version 2.
        #[repr(C)]
        pub struct Plugin {
            $(pub $field: $type,)*
        }

        impl Plugin {
            /// Every field, with its offset in bytes.
            pub fn offsets() -> Vec<(&'static str, usize)> {
                let table = std::mem::MaybeUninit::<Plugin>::uninit();
                let base = table.as_ptr();
                // No field is read.
                vec![$((stringify!($field), unsafe {
                    std::ptr::addr_of!((*base).$field) as usize - base as usize
                }),)*]
            }
        }
    };
}

table! {
    _struct_size: u64,
    _api_version: c_int,
    _thread_model: c_int,
    name: *const c_char,
    longname: *const c_char,
    version: *const c_char,
    description: *const c_char,
    load: Unused,
    unload: Option<unsafe extern "C" fn()>,
    config: Option<unsafe extern "C" fn(key: *const c_char, value: *const c_char) -> c_int>,
    config_complete: Option<unsafe extern "C" fn() -> c_int>,
    config_help: *const c_char,
    open: Option<unsafe extern "C" fn(readonly: c_int) -> *mut c_void>,
    close: Option<unsafe extern "C" fn(handle: *mut c_void)>,
    get_size: Option<unsafe extern "C" fn(handle: *mut c_void) -> i64>,
    can_write: Ask,
    can_flush: Ask,
    is_rotational: Ask,
    can_trim: Ask,
    _pread_v1: Unused,
    _pwrite_v1: Unused,
    _flush_v1: Unused,
    _trim_v1: Unused,
    _zero_v1: Unused,
    errno_is_preserved: c_int,
    dump_plugin: Unused,
    can_zero: Ask,
    can_fua: Ask,
    pread: Unused,
    pwrite: Unused,
    flush: Unused,
    trim: Unused,
    zero: Unused,
    magic_config_key: *const c_char,
    can_multi_conn: Ask,
    can_extents: Ask,
    extents: Unused,
    can_cache: Ask,
    cache: Unused,
    thread_model: Unused,
    can_fast_zero: Ask,
    preconnect: Unused,
    get_ready: Option<unsafe extern "C" fn() -> c_int>,
    after_fork: Option<unsafe extern "C" fn() -> c_int>,
    list_exports: Unused,
    default_export: Unused,
    export_description: Unused,
    cleanup: Option<unsafe extern "C" fn()>,
    block_size: Unused,
    async_pread: Option<unsafe extern "C" fn(
        conn: *mut c_void, reqid: u64, flush: bool, handle: *mut c_void, buf: *mut c_void,
        count: u32, offset: u64) -> c_int>,
    async_pwrite: Option<unsafe extern "C" fn(
        conn: *mut c_void, reqid: u64, flush: bool, handle: *mut c_void, buf: *const c_void,
        count: u32, offset: u64) -> c_int>,
    async_flush: Option<unsafe extern "C" fn(
        conn: *mut c_void, reqid: u64, handle: *mut c_void) -> c_int>,
    async_trim: Option<unsafe extern "C" fn(
        conn: *mut c_void, reqid: u64, flush: bool, handle: *mut c_void, count: u32,
        offset: u64) -> c_int>,
    async_zero: Option<unsafe extern "C" fn(
        conn: *mut c_void, reqid: u64, flush: bool, handle: *mut c_void, count: u32, offset: u64,
        flags: u32) -> c_int>,
    async_cache: Unused,
    async_extents: Option<unsafe extern "C" fn(
        conn: *mut c_void, reqid: u64, handle: *mut c_void, count: u32, offset: u64, flags: u32,
        extents: *mut Extents) -> c_int>,
    list_meta_contexts: Unused,
    async_block_status: Unused,
    lend: Unused,
    place: Unused,
    unplace: Unused,
    read_fd: Ask,
    write_fd: Ask,
    instance_bytes: u64,
    drained: Unused,
}

/// The part of the table for nbdkit: everything before async_pread, the first of asyncnbd's 16 fields.
pub const NBDKIT_FIELDS_BYTES: usize = std::mem::size_of::<Plugin>() - 16 * 8;

/// `struct asyncnbd_extension`: how the server finds what nbdkit must not see.
#[repr(C)]
pub struct Extension {
    pub _struct_size: u32,
    pub _thread_model: c_int,
    pub _callbacks_size: u64,
    /// From `async_pread` on.
    pub _callbacks: *const c_void,
}

extern "C" {
    pub fn nbdkit_error(format: *const c_char, ...);
    pub fn nbdkit_debug(format: *const c_char, ...);
    pub fn nbdkit_set_error(errno: c_int);
    pub fn nbdkit_parse_size(text: *const c_char) -> i64;
    pub fn nbdkit_export_name() -> *const c_char;
    pub fn nbdkit_add_extent(extents: *mut Extents, offset: u64, length: u64, kind: u32) -> c_int;
    pub fn nbdkit_async_reply(conn: *mut c_void, reqid: u64) -> c_int;
    pub fn nbdkit_async_reply_read(
        conn: *mut c_void, reqid: u64, count: u32, buf: *mut c_void) -> c_int;
    pub fn nbdkit_async_reply_read_lent(
        conn: *mut c_void, reqid: u64, count: u32, buf: *const c_void,
        release: unsafe extern "C" fn(opaque: *mut c_void), opaque: *mut c_void) -> c_int;
    pub fn nbdkit_async_reply_errno(conn: *mut c_void, reqid: u64, errno: c_int) -> c_int;
    pub fn nbdkit_async_batch_begin();
    pub fn nbdkit_async_batch_end();
    pub fn asyncnbd_instance() -> *mut c_void;
}
