//! How the allocator gives memory back.

/// Longer pieces of memory, in bytes, are the system's own again as soon as they are not used.
const RETURNED_FROM: libc::c_int = 1 << 20;

/// Keeps glibc from holding on to what it was given back.
///
/// Chunks, packs and listings have some MiB and come and go on many threads. glibc takes the first of them that is freed
/// as a sign to keep such pieces from then on (up to 32 MiB, see mallopt(3)), for each of its arenas: a worker that needs
/// 100 MiB held 350. A limit that was set is not moved.
pub(crate) fn return_what_is_not_used() {
    for limit in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
        // SAFETY: mallopt takes two numbers, may be called at any time, and refuses what it does not know.
        let was_set = unsafe { libc::mallopt(limit, RETURNED_FROM) };
        debug_assert_eq!(was_set, 1, "glibc knows the limits and takes 1 MiB");
    }
}
