//! When each data set was safe last.

use proto::handles::UnixTime;
use proto::id::Id;

use super::table::{DATASET_BYTES, DATASET_FILES, DATASET_LAST_SUCCESS};

/// A label is no longer than this.
const LABEL_CHARACTERS_MAX: usize = 120;

/// The label of a data set, for people: host and paths. One that would be too long is cut, and told from others by a few
/// digits of its digest.
pub fn data_set_label<'a>(host: &str, paths: impl IntoIterator<Item = &'a str>) -> String {
    let mut paths: Vec<&str> = paths.into_iter().collect();
    paths.sort_unstable();
    let whole: String = format!("{host}:{}", paths.join(","));
    let clean: String = whole.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    if clean.chars().count() <= LABEL_CHARACTERS_MAX && clean == whole {
        return clean;
    }
    let digest = Id::of(whole.as_bytes()).short();
    let kept: String = clean.chars().take(LABEL_CHARACTERS_MAX - 10).collect();
    format!("{kept}~{digest}")
}

/// What is known of a snapshot that was read back.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotFigures {
    /// When it was made.
    pub time: UnixTime,
    /// Files in it; not every program says.
    pub files: Option<u64>,
    /// Bytes of these.
    pub bytes: Option<u64>,
}

/// Shows the newest snapshot of a data set; only once it was read back.
pub fn show_data_set(label: &str, snapshot: SnapshotFigures) {
    DATASET_LAST_SUCCESS.set(&[label], snapshot.time.seconds as f64);
    if let Some(files) = snapshot.files {
        DATASET_FILES.set(&[label], files as f64);
    }
    if let Some(bytes) = snapshot.bytes {
        DATASET_BYTES.set(&[label], bytes as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_readable_and_bounded() {
        assert_eq!(data_set_label("db1", ["/srv/b", "/srv/a"]), "db1:/srv/a,/srv/b");
        let many: Vec<String> = (0..50).map(|number| format!("/srv/{number}")).collect();
        let label = |last: &str| data_set_label("h", many.iter().map(String::as_str).chain([last]));
        assert!(label("/x").chars().count() <= LABEL_CHARACTERS_MAX, "{}", label("/x"));
        assert!(label("/x").starts_with("h:/srv/0,/srv/1,"));
        assert_ne!(label("/x"), label("/y"), "what is cut off tells them apart");
        assert_eq!(label("/x"), label("/x"));
        assert!(!data_set_label("h\n", ["/a"]).contains('\n'));
    }
}
