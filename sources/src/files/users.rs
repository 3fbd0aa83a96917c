//! Names of users and groups as stock restic finds them: in /etc/passwd and /etc/group, read the way
//! Go's `os/user` does without cgo.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// User and group names by number. Travels as a host fact with a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserTable {
    /// User names.
    pub users: BTreeMap<u32, String>,
    /// Group names.
    pub groups: BTreeMap<u32, String>,
}

impl UserTable {
    /// The tables of this host. A missing file is an empty one.
    ///
    /// As in Go, the user who runs the process counts as named by `$USER` when the table lacks it and
    /// `$HOME` is set.
    pub fn of_this_host() -> io::Result<Self> {
        let read = |path: &str| match std::fs::read(Path::new(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            result => result,
        };
        let mut table = Self::parse(&read("/etc/passwd")?, &read("/etc/group")?);
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let (Some(user), Some(_)) = (variable("USER"), variable("HOME")) {
            table.users.entry(rustix::process::getuid().as_raw()).or_insert(user);
        }
        Ok(table)
    }

    /// Parses the contents of /etc/passwd and /etc/group. The first entry for a number wins.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        let mut table = Self::default();
        for fields in entries(passwd, 7) {
            // Go wants a numeric group too, and at least six colons.
            if fields.len() == 7 && is_integer(fields[3]) {
                insert(&mut table.users, &fields);
            }
        }
        for fields in entries(group, 4) {
            if fields.len() == 4 {
                insert(&mut table.groups, &fields);
            }
        }
        table
    }
}

/// Lines that are not empty or comments, in at most `fields` parts.
fn entries(table: &[u8], fields: usize) -> impl Iterator<Item = Vec<&[u8]>> {
    table
        .split(|byte| *byte == b'\n')
        .map(<[u8]>::trim_ascii)
        .filter(|line| !line.is_empty() && line[0] != b'#')
        .map(move |line| line.splitn(fields, |byte| *byte == b':').collect())
}

/// Field 0 is the name, field 2 the number, which must be written as restic would write it. Names that
/// begin with `+` or `-` belong to NIS.
fn insert(names: &mut BTreeMap<u32, String>, fields: &[&[u8]]) {
    let name = fields[0];
    let Some(number) = str::from_utf8(fields[2]).ok().and_then(|text| text.parse::<u32>().ok()) else { return };
    if number.to_string().as_bytes() != fields[2] || matches!(name.first(), None | Some(b'+' | b'-')) {
        return;
    }
    names.entry(number).or_insert_with(|| String::from_utf8_lossy(name).into_owned());
}

fn is_integer(field: &[u8]) -> bool {
    str::from_utf8(field).is_ok_and(|text| text.parse::<i64>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::super::stock_restic::StockRestic;
    use super::*;

    #[test]
    fn the_first_sound_entry_wins() {
        let table = UserTable::parse(PASSWD, GROUP);
        let names = |map: &BTreeMap<u32, String>| map.iter().map(|(n, name)| format!("{n}={name}")).collect::<Vec<_>>();
        assert_eq!(
            names(&table.users),
            ["0=root", "10=spaces", "11=sign", "12=negative", "13=nospace ", "14=last", "4294967294=large"]
        );
        assert_eq!(names(&table.groups), ["0=root", "100=users", "104=end"]);
    }

    const PASSWD: &[u8] = b"# comment\n\
        root:x:0:0:root:/root:/bin/bash\n\
        toor:x:0:0::/root:/bin/sh\n\
        +nis:x:5:5::/:/\n\
        -nis:x:5:5::/:/\n\
        short:x:6:6:/\n\
        six:x:16:6:gecos:/\n\
        zero:x:007:7::/:/\n\
        group:x:8:none::/:/\n\
        sign:x:11:+5::/:/\n\
        negative:x:12:-5::/:/\n\
        :x:9:9::/:/\n\
        nospace :x:13:1::/:/\n\
        large:x:4294967294:1::/:/\n\
        \t spaces:x:10:10:a b:/:/ extra:colon \n\
        last:x:14:14:::";
    const GROUP: &[u8] = b"root:x:0:\nwheel:x:0:a,b\nusers:x:100:a:b\ncut:x:101\n+:x:102:\n #odd:x:103:\nend:x:104:";

    /// Lines on which builds of restic with and without cgo agree.
    const SOUND_PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        # comment\n\n\
        toor:x:0:0::/root:/bin/sh\n\
        a.b-c_d:x:5:5:G\xc3\xa9cos:/:\n\
        UP:x:17:17::/:/\n\
        large:x:4294967294:1::/:/\n\
        last:x:14:14:::";
    const SOUND_GROUP: &[u8] = b"root:x:0:\nwheel:x:0:a,b\nusers:x:100:a\nend:*:104:\nlarge::4294967294:";

    #[test]
    fn this_host_has_a_root() {
        assert_eq!(UserTable::of_this_host().unwrap().users[&0], "root");
    }

    #[test]
    fn names_as_stock_restic() {
        let program = std::env::current_exe().unwrap();
        let output = Command::new("unshare")
            .args(["--mount", "--"])
            .arg(program)
            .env("SOURCES_TEST_INSIDE", "1")
            .args(["--exact", "--nocapture", "files::users::tests::names_as_stock_restic_inside"])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
    }

    #[test]
    // Does its work only when `names_as_stock_restic` runs it, which gives it a mount namespace of its own.
    fn names_as_stock_restic_inside() {
        if std::env::var_os("SOURCES_TEST_INSIDE").is_none() {
            return;
        }
        let stock = StockRestic::new();
        let base = stock.base();
        for (file, contents) in [("passwd", SOUND_PASSWD), ("group", SOUND_GROUP)] {
            std::fs::write(base.join(file), contents).unwrap();
            let mount = Command::new("mount").arg("--bind").arg(base.join(file)).arg(format!("/etc/{file}")).status();
            assert!(mount.unwrap().success());
        }
        std::fs::create_dir(base.join("owned")).unwrap();
        for number in (0..20).chain(95..110).chain([4_294_967_294]) {
            let path = base.join("owned").join(number.to_string());
            std::fs::write(&path, "").unwrap();
            std::os::unix::fs::chown(path, Some(number), Some(number)).unwrap();
        }
        let table = UserTable::of_this_host().unwrap();
        for node in stock.nodes("owned") {
            let (uid, gid) = (node["uid"].as_u64().unwrap() as u32, node["gid"].as_u64().unwrap() as u32);
            assert_eq!(table.users.get(&uid).map(String::as_str), node["user"].as_str(), "user {uid}");
            assert_eq!(table.groups.get(&gid).map(String::as_str), node["group"].as_str(), "group {gid}");
        }
    }
}
