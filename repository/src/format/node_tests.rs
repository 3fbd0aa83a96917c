//! Nodes as restic wrote them, and any node there and back.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn encode(node: &Node) -> String {
    let mut out = Vec::new();
    node.encode(&mut out);
    String::from_utf8(out).unwrap()
}

/// Written by restic 0.19.1.
const WRITTEN: [&str; 5] = [
    r#"{"name":"empty","type":"file","mode":420,"mtime":"2023-11-14T22:13:20.123456789Z","atime":"2023-11-14T22:13:20.123456789Z","ctime":"2026-11-23T15:37:02.412801701Z","uid":0,"gid":0,"user":"root","group":"root","inode":10059930,"device_id":65024,"links":1,"content":[]}"#,
    r#"{"name":"stdin","type":"file","mode":420,"mtime":"2023-11-14T23:13:20+01:00","atime":"2023-11-14T23:13:20+01:00","ctime":"2023-11-14T23:13:20+01:00","uid":0,"gid":0,"size":5,"content":["2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"]}"#,
    r#"{"name":"l","type":"symlink","mode":134218239,"mtime":"1966-10-31T13:28:50-00:44","atime":"1966-10-31T13:28:50-00:44","ctime":"2026-11-23T15:37:02Z","uid":4294967295,"gid":1,"inode":1,"device_id":18446744073709551615,"links":1,"linktarget":"a\ufffd\u003cb","linktarget_raw":"Yf88Yg==","content":null}"#,
    r#"{"name":"a\\\"b\\xff","type":"dir","mode":2147484141,"mtime":"0001-01-01T00:00:00Z","atime":"0001-01-01T00:00:00Z","ctime":"0001-01-01T00:00:00Z","uid":0,"gid":0,"extended_attributes":[{"name":"user.\ufffd","value":""},{"name":"user.b","value":"AAE="}],"content":null,"subtree":"ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8"}"#,
    r#"{"name":"w","type":"file","mode":438,"mtime":"2023-11-14T22:13:20Z","atime":"2023-11-14T22:13:20Z","ctime":"2023-11-14T22:13:20Z","uid":0,"gid":0,"user":"PC\\u\u0026v","generic_attributes":{"windows.creation_time":"gGfvTQoX2gE=","windows.file_attributes":32},"content":[],"error":"e"}"#,
];

#[test]
fn what_restic_wrote_comes_back_byte_for_byte() {
    for text in WRITTEN {
        assert_eq!(encode(&Node::decode(text.as_bytes()).unwrap()), text);
    }
}

#[test]
fn fields_are_where_they_belong() {
    let link = Node::decode(WRITTEN[2].as_bytes()).unwrap();
    assert_eq!((link.kind, link.permissions()), (Kind::Symlink, 0o777));
    assert_eq!(link.link_target, b"a\xff<b");
    assert_eq!((link.uid, link.device_id), (u32::MAX, u64::MAX));
    let dir = Node::decode(WRITTEN[3].as_bytes()).unwrap();
    assert_eq!(dir.name, b"a\"b\xff");
    assert_eq!(dir.extended_attributes[0].name, b"user.\xff");
    assert_eq!((dir.content, dir.subtree.map(|id| id.short())), (None, Some("ac08ce34".to_owned())));
}

#[test]
fn foreign_key_order_unknown_keys_and_nulls_are_read() {
    let text = r#" { "content" : null , "x":{"y":[1,{"z":"}"}]}, "subtree":null, "type":"chardev", "mode":null, "linktarget_raw":null,
        "name":"a", "extended_attributes":[{"value":null,"q":1,"name":"n"}], "generic_attributes":{ }, "size":3 } "#;
    let node = Node::decode(text.as_bytes()).unwrap();
    let attribute = ExtendedAttribute { name: b"n".to_vec(), value: Vec::new() };
    let expected = Node {
        name: b"a".to_vec(),
        kind: Kind::CharDevice,
        size: 3,
        extended_attributes: vec![attribute],
        ..Node::default()
    };
    assert_eq!(node, expected);
}

#[test]
fn wrong_values_are_refused_where_they_stand() {
    for (text, position) in [
        (r#"{"name":1}"#, 8),
        (r#"{"name":"\\z"}"#, 8),
        (r#"{"mode":4294967296}"#, 8),
        (r#"{"size":-1}"#, 8),
        (r#"{"mtime":"yesterday"}"#, 9),
        (r#"{"content":["00"]}"#, 12),
        (r#"{"subtree":"ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fezz"}"#, 11),
        (r#"{"linktarget_raw":"?"}"#, 18),
        (r#"{"generic_attributes":[]}"#, 22),
        (r#"{"name":"a"} x"#, 13),
        (r#"{"name":"a""#, 11),
    ] {
        assert_eq!(Node::decode(text.as_bytes()).map_err(|error| error.position), Err(position), "{text}");
    }
}

#[test]
fn modes_are_those_of_go() {
    for (st_mode, mode) in [
        (0o040_755, 2_147_484_141),
        (0o041_777, 2_148_532_735),
        (0o100_644, 420),
        (0o104_755, 8_389_101),
        (0o102_755, 4_194_797),
        (0o120_777, 134_218_239),
        (0o060_640, 67_109_280),
        (0o020_600, 69_206_400),
        (0o010_644, 33_554_852),
        (0o140_755, 16_777_709),
        (0o100_000, 0),
    ] {
        assert_eq!(mode_from_stat(st_mode), mode, "{st_mode:o}");
        assert_eq!(stat_mode(mode), st_mode);
        assert_eq!(permissions(mode), st_mode & 0o7777);
    }
    for kind in [Kind::File, Kind::Dir, Kind::Symlink, Kind::Device, Kind::CharDevice, Kind::Fifo, Kind::Socket] {
        assert_eq!(Kind::from_name(kind.as_str().as_bytes()), kind);
    }
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        vec(any::<u8>(), 0..max),
        ".{0,8}".prop_map(String::into_bytes),
        "[a-z<>&\"\\\\\u{7f}\u{2028}\u{fffd}]{0,8}".prop_map(String::into_bytes)
    ]
}

/// Text that lost its invalid bytes once.
fn read_back(bytes: Vec<u8>) -> Vec<u8> {
    let chunks = bytes.utf8_chunks();
    chunks.flat_map(|chunk| [chunk.valid().as_bytes().to_vec(), vec![0xff; chunk.invalid().len()]].concat()).collect()
}

prop_compose! {
    fn any_time()(seconds in -62_135_596_800_i64..253_402_300_800, nanos in 0_u32..1_000_000_000) -> NodeTime {
        NodeTime::from_unix(proto::handles::UnixTime { seconds, nanos }, &Zone::utc())
    }
}

prop_compose! {
    fn any_attribute()(name in bytes(20), value in vec(any::<u8>(), 0..20)) -> ExtendedAttribute {
        ExtendedAttribute { name: read_back(name), value }
    }
}

prop_compose! {
    fn any_numbers()(
        mode: u32, uid: u32, gid: u32, inode: u64, device_id: u64, size: u64, links: u64, device: u64,
        times in [any_time(), any_time(), any_time()],
    ) -> Node {
        let [mtime, atime, ctime] = times;
        Node { mode, mtime, atime, ctime, uid, gid, inode, device_id, size, links, device, ..Node::default() }
    }
}

prop_compose! {
    fn any_node()(
        node in any_numbers(),
        name in bytes(40),
        kind in proptest::sample::select(vec![Kind::File, Kind::Dir, Kind::Symlink, Kind::Device, Kind::Irregular, Kind::Unknown]),
        texts in [bytes(10), bytes(10), bytes(10)],
        link_target in bytes(40),
        extended_attributes in vec(any_attribute(), 0..4),
        generic in proptest::option::of(Just(r#"{"windows.file_attributes":32}"#)),
        content in proptest::option::of(vec(any::<[u8; 32]>(), 0..4)),
        subtree in proptest::option::of(any::<[u8; 32]>()),
    ) -> Node {
        let [user, group, error] = texts.map(read_back);
        Node {
            name, kind, user, group, error, link_target, extended_attributes,
            generic_attributes: generic.map(Into::into),
            content: content.map(|ids| ids.into_iter().map(Id::from_bytes).collect()),
            subtree: subtree.map(Id::from_bytes),
            ..node
        }
    }
}

proptest! {
    #[test]
    fn any_node_round_trips(node in any_node()) {
        let text = encode(&node);
        prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        let again = Node::decode(text.as_bytes()).unwrap();
        prop_assert_eq!(encode(&again), text);
        prop_assert_eq!(again, node);
    }

    #[test]
    fn a_damaged_node_never_panics(node in any_node(), cut in 0_usize..400, byte: u8) {
        let mut text = encode(&node).into_bytes();
        let at = cut % text.len();
        prop_assert!(Node::decode(&text[..at]).is_err());
        text[at] = byte;
        let _ = Node::decode(&text);
    }
}
