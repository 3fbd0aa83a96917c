//! The licence check: every crate that we link must come under terms that MIT OR Apache-2.0 can pass on.

use cargo_metadata::Metadata;

use crate::failure::Failure;

const ALLOWED: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Unicode-3.0",
    "Zlib",
    "CC0-1.0",
    "0BSD",
    // Data, permissive: Mozilla's list of root certificates, which the TLS library uses on other platforms than ours.
    "CDLA-Permissive-2.0",
    "BSL-1.0",
];

/// Judges every package that is not of the workspace and prints each finding.
pub(crate) fn run(metadata: &Metadata) -> Result<(), Failure> {
    let mut findings = 0;
    let mut judged = 0;
    for package in metadata.packages.iter().filter(|package| package.source.is_some()) {
        judged += 1;
        let verdict = match &package.license {
            Some(expression) => allowed(expression),
            None => Err("it names no licence expression".to_owned()),
        };
        if let Err(reason) = verdict {
            findings += 1;
            println!("licence: {} {}: {reason}", package.name, package.version);
        }
    }
    println!("licences: {judged} crates, {findings} findings");
    if findings == 0 { Ok(()) } else { Err(Failure::Findings { check: "licences", count: findings }) }
}

/// Whether an SPDX expression (or the older `A/B`, which means OR) can be met with allowed licences.
fn allowed(expression: &str) -> Result<(), String> {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut parser = Parser { words: &words, at: 0 };
    match parser.any_of() {
        Some(verdict) if parser.at == words.len() => {
            if verdict {
                Ok(())
            } else {
                Err(format!("`{expression}` cannot be met with {}", ALLOWED.join(", ")))
            }
        }
        _ => Err(format!("`{expression}` is not an SPDX expression")),
    }
}

/// Recursive descent: OR binds weaker than AND, WITH belongs to the licence before it. `None`: not an expression.
struct Parser<'a> {
    words: &'a [&'a str],
    at: usize,
}

impl Parser<'_> {
    fn any_of(&mut self) -> Option<bool> {
        let mut verdict = self.all_of()?;
        while self.take("OR") {
            verdict |= self.all_of()?;
        }
        Some(verdict)
    }

    fn all_of(&mut self) -> Option<bool> {
        let mut verdict = self.one()?;
        while self.take("AND") {
            verdict &= self.one()?;
        }
        Some(verdict)
    }

    fn one(&mut self) -> Option<bool> {
        if self.take("(") {
            let verdict = self.any_of()?;
            return self.take(")").then_some(verdict);
        }
        let licence = *self.words.get(self.at)?;
        if ["OR", "AND", "WITH", ")"].contains(&licence) {
            return None;
        }
        self.at += 1;
        if !self.take("WITH") {
            return Some(ALLOWED.contains(&licence));
        }
        let exception = *self.words.get(self.at)?;
        self.at += 1;
        Some(ALLOWED.contains(&format!("{licence} WITH {exception}").as_str()))
    }

    fn take(&mut self, word: &str) -> bool {
        let found = self.words.get(self.at) == Some(&word);
        self.at += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::allowed;

    #[test]
    fn expressions_are_met_by_any_allowed_branch() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "Unlicense OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "GPL-3.0 OR (BSD-3-Clause AND ISC)",
        ] {
            assert_eq!(allowed(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn copyleft_and_nonsense_are_refused() {
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "Unlicense", "Apache-2.0 WITH GPL-exception", "", "MIT OR", "(MIT"] {
            assert!(allowed(bad).is_err(), "{bad}");
        }
    }
}
