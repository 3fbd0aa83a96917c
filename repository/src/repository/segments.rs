//! Keeps pieces of tree packs in memory: a walk asks for trees that lie side by side one after the
//! other, and every request is billed.
//!
//! Packs are read in windows that begin at multiples of 1 MiB, so that a walk may go either way.
//! Who needs a window that another is fetching waits for it.

use std::collections::HashMap;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use proto::id::Id;
use tokio::sync::OnceCell;

/// Bytes of a window.
const WINDOW_LENGTH: u64 = 1 << 20;

/// Windows that are kept: 32 MiB.
const WINDOWS_MAX: usize = 32;

/// Longer blobs are not kept: they would drive out everything else.
pub(super) const KEPT_LENGTH_MAX: u64 = 4 << 20;

type WindowKey = (Id, u64);

/// Windows of packs, the last used ones.
pub(super) struct Segments {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    windows: HashMap<WindowKey, Window>,
    uses: u64,
}

struct Window {
    bytes: Arc<OnceCell<Bytes>>,
    last_use: u64,
}

impl Segments {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it is held; a window is put in by one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of `range`, which is not empty, of a pack of `length` bytes. `get` fetches a range
    /// of the pack; it is called at most once for windows in a row.
    ///
    /// # Errors
    /// Those of `get`.
    pub(super) async fn read<E, F>(
        &self,
        pack: &Id,
        length: u64,
        range: Range<u64>,
        get: impl Fn(Range<u64>) -> F,
    ) -> Result<Bytes, E>
    where
        F: Future<Output = Result<Bytes, E>>,
    {
        let last = (range.end - 1) / WINDOW_LENGTH;
        let mut read = BytesMut::with_capacity((range.end - range.start) as usize);
        for number in range.start / WINDOW_LENGTH..=last {
            let start = number * WINDOW_LENGTH;
            let cell = self.window((*pack, number));
            let fetch = || async {
                let end = ((last + 1) * WINDOW_LENGTH).min(length).max(range.end);
                let fetched = get(start..end).await?;
                self.keep_following(pack, number, &fetched);
                Ok(own_window(&fetched, 0))
            };
            let bytes = cell.get_or_try_init(fetch).await?;
            let from = range.start.saturating_sub(start) as usize;
            let to = (range.end - start).min(bytes.len() as u64) as usize;
            read.extend_from_slice(&bytes[from.min(to)..to]);
        }
        Ok(read.freeze())
    }

    /// Forgets every window of a pack.
    pub(super) fn forget(&self, pack: &Id) {
        self.state().windows.retain(|(of, _), _| of != pack);
    }

    /// Keeps what was fetched beyond window `number`.
    fn keep_following(&self, pack: &Id, number: u64, fetched: &Bytes) {
        for (ahead, _) in fetched.chunks(WINDOW_LENGTH as usize).enumerate().skip(1) {
            let cell = self.window((*pack, number + ahead as u64));
            // If another is fetching the same window, one of the two is dropped.
            let _ = cell.set(own_window(fetched, ahead));
        }
    }

    /// The place of a window. Makes room if there is none.
    fn window(&self, key: WindowKey) -> Arc<OnceCell<Bytes>> {
        let mut state = self.state();
        state.uses += 1;
        let last_use = state.uses;
        if !state.windows.contains_key(&key) && state.windows.len() >= WINDOWS_MAX {
            let oldest = state.windows.iter().min_by_key(|(_, window)| window.last_use).map(|(key, _)| *key);
            oldest.and_then(|key| state.windows.remove(&key));
        }
        let window = state.windows.entry(key).or_insert_with(|| Window { bytes: Arc::default(), last_use });
        window.last_use = last_use;
        window.bytes.clone()
    }
}

/// One window of what was fetched; copied, so that it does not hold on to the others.
fn own_window(fetched: &Bytes, ahead: usize) -> Bytes {
    let length = WINDOW_LENGTH as usize;
    let start = ahead * length;
    let end = (start + length).min(fetched.len());
    if start == 0 && end == fetched.len() { fetched.clone() } else { Bytes::copy_from_slice(&fetched[start..end]) }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    /// A pack whose bytes follow from their place, and how often it was asked.
    struct Pack {
        bytes: Bytes,
        requests: AtomicU64,
    }

    impl Pack {
        fn new(length: usize) -> Self {
            let bytes: Vec<u8> =
                (0..length as u32).map(|place| place.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
            Self { bytes: bytes.into(), requests: AtomicU64::new(0) }
        }

        async fn get(&self, range: Range<u64>) -> Result<Bytes, Range<u64>> {
            self.requests.fetch_add(1, Ordering::Relaxed);
            if range.end > self.bytes.len() as u64 {
                return Err(range);
            }
            Ok(self.bytes.slice(range.start as usize..range.end as usize))
        }

        async fn read(&self, segments: &Segments, pack: &Id, range: Range<u64>) {
            let read = segments.read(pack, self.bytes.len() as u64, range.clone(), |range| self.get(range)).await;
            assert!(read.unwrap() == self.bytes[range.start as usize..range.end as usize], "{range:?}");
        }

        fn requests(&self) -> u64 {
            self.requests.load(Ordering::Relaxed)
        }
    }

    fn id(number: u64) -> Id {
        Id::of(&number.to_le_bytes())
    }

    #[tokio::test]
    async fn neighbours_cost_one_request() {
        let (pack, segments) = (Pack::new(5 << 20), Segments::new());
        for start in (0..20).rev().map(|tree| tree * 50_000) {
            pack.read(&segments, &id(0), start..start + 40_000).await;
        }
        assert_eq!(pack.requests(), 1);
        pack.read(&segments, &id(0), (3 << 20) - 10..(5 << 20)).await;
        assert_eq!(pack.requests(), 2, "windows in a row are fetched together");
        pack.read(&segments, &id(0), (4 << 20)..(4 << 20) + 1).await;
        assert_eq!(pack.requests(), 2);
        segments.forget(&id(0));
        pack.read(&segments, &id(0), 0..1).await;
        assert_eq!(pack.requests(), 3);
    }

    #[tokio::test]
    async fn the_last_used_windows_are_kept() {
        let (pack, segments) = (Pack::new(1000), Segments::new());
        for number in 0..100 {
            pack.read(&segments, &id(number), 0..10).await;
            pack.read(&segments, &id(0), 0..10).await;
        }
        assert_eq!(pack.requests(), 100);
        assert_eq!(segments.state().windows.len(), WINDOWS_MAX);
    }

    #[tokio::test]
    async fn who_comes_second_waits() {
        let (pack, segments) = (Pack::new(1000), Segments::new());
        let (go, wait) = tokio::sync::oneshot::channel::<()>();
        let wait = std::sync::Mutex::new(Some(wait));
        let slow = |range| {
            let wait = wait.lock().unwrap().take();
            let pack = &pack;
            async move {
                if let Some(wait) = wait {
                    wait.await.unwrap();
                }
                pack.get(range).await
            }
        };
        let pack_id = id(1);
        let first = segments.read(&pack_id, 1000, 0..10, slow);
        let second = segments.read(&pack_id, 1000, 20..30, slow);
        let release = async { go.send(()).unwrap() };
        let (first, second, ()) = futures::join!(first, second, release);
        assert!(first.unwrap() == pack.bytes[0..10] && second.unwrap() == pack.bytes[20..30]);
        assert_eq!(pack.requests(), 1);
    }

    #[tokio::test]
    async fn what_could_not_be_had_is_asked_for_again() {
        let (pack, segments) = (Pack::new(1000), Segments::new());
        let beyond = segments.read(&id(1), 1100, 0..10, |range| pack.get(range)).await;
        assert_eq!(beyond.unwrap_err(), 0..1100);
        pack.read(&segments, &id(1), 0..10).await;
        assert_eq!(pack.requests(), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn any_ranges_are_what_a_slice_gives(
            length in 1..(4u64 << 20),
            ranges in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..8),
        ) {
            let (pack, segments) = (Pack::new(length as usize), Segments::new());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for (one, other) in ranges {
                let (one, other) = (one.index(length as usize) as u64, other.index(length as usize) as u64);
                runtime.block_on(pack.read(&segments, &id(0), one.min(other)..one.max(other) + 1));
            }
        }
    }
}
