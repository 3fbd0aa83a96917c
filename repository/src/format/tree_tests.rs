//! Trees there and back, in pieces of any size, and damaged.

use std::io::BufReader;

use proptest::prelude::*;

use super::*;

fn node(name: &str, kind: Kind) -> Node {
    Node { name: name.as_bytes().to_vec(), kind, ..Node::default() }
}

fn write(nodes: &[Node]) -> Vec<u8> {
    let mut writer = TreeWriter::new(Vec::new()).unwrap();
    for node in nodes {
        let mut json = Vec::new();
        node.encode(&mut json);
        writer.push(&node.name, &json).unwrap();
    }
    assert_eq!(writer.nodes(), nodes.len() as u64);
    writer.finish().unwrap()
}

fn read(tree: &[u8]) -> Result<Vec<Node>, TreeReadError> {
    TreeReader::new(tree).collect()
}

#[test]
fn the_empty_tree_has_its_known_id() {
    assert_eq!(write(&[]), EMPTY_TREE);
    assert_eq!(Id::of(EMPTY_TREE), EMPTY_TREE_ID);
    assert_eq!(EMPTY_TREE_ID.to_string(), "ac08ce34ba4f8123618661bef2425f7028ffb9ac740578a3ee88684d2523fee8");
    assert!(read(EMPTY_TREE).unwrap().is_empty());
}

#[test]
fn a_tree_of_restic_comes_back_byte_for_byte() {
    // Odd names, modes, kinds, targets, attributes and times before 1972 in the zone Africa/Monrovia.
    let tree = include_bytes!("../../testdata/trees/awkward-restic-0.19.1.json");
    let nodes = read(tree).unwrap();
    assert_eq!(nodes.len(), 165);
    assert!(write(&nodes) == tree);
}

#[test]
fn names_must_ascend_as_bytes() {
    let mut writer = TreeWriter::new(Vec::new()).unwrap();
    writer.push(b"B", b"{}").unwrap();
    writer.push(b"a", b"{}").unwrap();
    writer.push(b"a\xff", b"{}").unwrap();
    assert!(matches!(writer.push(b"a\xff", b"{}"), Err(TreeWriteError::NotAscending { .. })));
    let refused = writer.push("aé".as_bytes(), b"{}").unwrap_err();
    assert_eq!(refused.to_string(), "\"aé\" cannot follow \"a\u{fffd}\" in a tree: names must ascend");
    assert!(matches!(writer.push(b"", b"{}"), Err(TreeWriteError::EmptyName)));
    assert_eq!(writer.finish().unwrap(), b"{\"nodes\":[{},{},{}]}\n");
}

#[test]
fn unknown_keys_and_white_space_are_skipped() {
    let text = "\n { \"a\\\"]}\" : [ {\"nodes\":[1]} , \"}\" ] , \"n\":-1.5e3,\"t\" :true , \"nodes\" : [ {\"name\":\"x\",\"type\":\"dir\"} \n,\
                \t{\"type\":\"fifo\",\"new\":{\"]\":\"\\\\\"},\"name\":\"y\"}\r\n] , \"z\" : null , \"nodes\":[] } trailing";
    let nodes = read(text.as_bytes()).unwrap();
    assert_eq!(nodes, [node("x", Kind::Dir), node("y", Kind::Fifo)]);
}

#[test]
fn raw_nodes_tell_name_and_kind() {
    let text = r#"{"nodes":[{"name":"a\\xff","type":"file","rest":}, {"type":"dir"}, {"name":1}]}"#;
    let mut reader = TreeReader::new(text.as_bytes());
    let raw = reader.next_raw().unwrap().unwrap();
    assert_eq!(raw.name_and_kind().unwrap(), (b"a\xff".to_vec(), Kind::File));
    assert_eq!(raw.json(), br#"{"name":"a\\xff","type":"file","rest":}"#);
    assert!(matches!(raw.decode(), Err(TreeReadError::Damaged { position: 10, .. })));
    let raw = reader.next_raw().unwrap().unwrap();
    assert_eq!(raw.name_and_kind().unwrap(), (Vec::new(), Kind::Dir));
    let raw = reader.next_raw().unwrap().unwrap();
    assert!(matches!(raw.name_and_kind(), Err(TreeReadError::Damaged { .. })));
    assert!(reader.next_raw().unwrap().is_none());
    assert!(reader.next_raw().unwrap().is_none());
}

#[test]
fn what_is_no_tree_is_refused() {
    for bad in [
        "x",
        "[]",
        "{}",
        "null",
        r#"{"nodes":null}"#,
        r#"{"nodes":{}}"#,
        r#"{"a":1}"#,
        r#"{"nodes":[{}{}]}"#,
        r#"{"nodes":[{},]}"#,
        r#"{"nodes":[,{}]}"#,
        r#"{"nodes":[1]}"#,
        r#"{"nodes":[{}]]"#,
        r#"{"nodes":[{}}}"#,
        r#"{"nodes":[{]}]}"#,
        r#"{"nodes":[] "a":1}"#,
        r#"{"nodes":[],"a"}"#,
        r#"{"nodes" []}"#,
        r#"{nodes:[]}"#,
    ] {
        assert!(matches!(read(bad.as_bytes()), Err(TreeReadError::Damaged { .. })), "{bad}");
    }
    let mut reader = TreeReader::new(&b"{\"nodes\":[{\"mode\":-1},{}]}"[..]);
    assert!(reader.next().unwrap().is_err());
    assert!(reader.next().is_none());
}

#[test]
fn a_cut_tree_is_truncated_wherever_it_is_cut() {
    let tree = write(&[node("a\"}\\", Kind::File), node("b", Kind::Dir)]);
    for length in 0..tree.len() - 1 {
        let error = read(&tree[..length]).unwrap_err();
        let TreeReadError::Truncated { bytes_read } = error else { panic!("cut at {length}: {error:?}") };
        assert_eq!(bytes_read, length as u64);
    }
}

#[test]
fn errors_of_the_reader_pass_through() {
    struct Failing;
    impl io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no"))
        }
    }
    let error = TreeReader::new(BufReader::new(Failing)).next().unwrap().unwrap_err();
    assert!(matches!(error, TreeReadError::Read(_)));
}

proptest! {
    #[test]
    fn trees_round_trip_in_pieces_of_any_size(
        names in proptest::collection::btree_set("[a-c\"\\\\\\]}{é\n]{1,6}", 0..20),
        piece in 1_usize..50,
    ) {
        let nodes: Vec<Node> = names.iter().map(|name| node(name, Kind::File)).collect();
        let tree = write(&nodes);
        let reader = TreeReader::new(BufReader::with_capacity(piece, tree.as_slice()));
        prop_assert_eq!(reader.collect::<Result<Vec<_>, _>>().unwrap(), nodes);
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..60), text in "(\\{|\"nodes\"|:|\\[|\\]|\\}|,|\"a\"|1| ){0,14}") {
        let _ = read(&noise);
        // What is read as a tree is JSON, apart from what follows it.
        if read(text.as_bytes()).is_ok() {
            let mut values = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
            prop_assert!(values.next().is_some_and(|value| value.is_ok()));
        }
    }
}
