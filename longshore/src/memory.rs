//! How much memory the allocator keeps.

/// Arenas at least: threads that allocate at the same time do not wait for each other.
const ARENAS_MIN: usize = 2;
/// Shorter pieces of memory, in bytes, come from an arena: packs do. The most that glibc takes.
const IN_ARENAS_UP_TO: libc::c_int = 32 << 20;
/// So much may be free at the end of an arena before it goes back to the system, in bytes.
const KEPT_MAX: libc::c_int = 256 << 20;

/// Lets glibc have one arena for every two cores, instead of 8 for each, and use again what was freed.
///
/// Chunks, packs and listings have some MiB and come and go on many threads. What is freed stays with the arena that it
/// came from (see mallopt(3)), and is used again only by threads that are given the same: with 16 arenas a worker that
/// needs 100 MiB held 360. Giving such pieces back to the system would cost a quarter of the speed of large files: every
/// page of them is cleared anew.
pub(crate) fn share_arenas() {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let arenas = libc::c_int::try_from((cores / 2).max(ARENAS_MIN)).unwrap_or(libc::c_int::MAX);
    let settings =
        [(libc::M_ARENA_MAX, arenas), (libc::M_MMAP_THRESHOLD, IN_ARENAS_UP_TO), (libc::M_TRIM_THRESHOLD, KEPT_MAX)];
    for (setting, value) in settings {
        // SAFETY: mallopt takes two numbers, may be called at any time, and refuses what it does not know.
        let was_set = unsafe { libc::mallopt(setting, value) };
        debug_assert_eq!(was_set, 1, "glibc knows setting {setting}");
    }
}
