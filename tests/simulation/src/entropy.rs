//! Takes the kernel's randomness away from this program, so that a seed decides everything.
//!
//! The order of a `HashMap` and the seed of tokio's scheduler come from the C library's `getrandom`. The linker takes
//! the definition of the program before that of a shared library.

/// What `getrandom(2)` does, with the same bytes each time.
///
/// # Safety
/// `buffer` must point to `length` bytes that may be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller says that so many bytes may be written.
    unsafe { std::ptr::write_bytes(buffer, 0x5a, length) };
    isize::try_from(length).unwrap_or(isize::MAX)
}
