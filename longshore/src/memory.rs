//! How much memory the allocator keeps.

/// Arenas at least: threads that allocate at the same time do not wait for each other.
const ARENAS_MIN: usize = 2;

/// Lets glibc have one arena for every two cores, instead of 8 for each.
///
/// Chunks, packs and listings have some MiB and come and go on many threads. What is freed stays with the arena that it
/// came from (see mallopt(3)), and is used again only by threads that are given the same: with 16 arenas a worker that
/// needs 100 MiB held 360. Giving such pieces back to the system at once costs a quarter of the speed of large files:
/// every page of them is cleared anew.
pub(crate) fn bound_arenas() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let arenas = libc::c_int::try_from((cores / 2).max(ARENAS_MIN)).unwrap_or(libc::c_int::MAX);
    // SAFETY: mallopt takes two numbers, may be called at any time, and refuses what it does not know.
    let was_set = unsafe { libc::mallopt(libc::M_ARENA_MAX, arenas) };
    debug_assert_eq!(was_set, 1, "glibc knows this limit");
}
