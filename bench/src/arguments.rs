//! The words behind a command: `--name VALUE`, each with a default.

/// Words that nobody has asked for yet.
pub(crate) struct Arguments {
    pairs: Vec<(String, String)>,
    /// All names that were asked for, for the error of an unknown one.
    known: Vec<&'static str>,
}

impl Arguments {
    /// Every second word is the value of the one before.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let parse = |pair: &[String]| match pair {
            [name, value] => Ok((name.clone(), value.clone())),
            _ => Err(format!("{}: its value is missing", pair[0])),
        };
        Ok(Self { pairs: words.chunks(2).map(parse).collect::<Result<_, _>>()?, known: Vec::new() })
    }

    /// The number of this name.
    pub(crate) fn number(&mut self, name: &'static str, default: u64) -> Result<u64, String> {
        let Some(value) = self.text(name) else { return Ok(default) };
        match value.parse() {
            Ok(0) => Err(format!("{name}: 0 is too little")),
            Ok(number) => Ok(number),
            Err(_) => Err(format!("{name}: {value:?} is no number")),
        }
    }

    /// The value of this name, if it was given.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        self.known.push(name);
        let at = self.pairs.iter().position(|(present, _)| present == name)?;
        Some(self.pairs.swap_remove(at).1)
    }

    /// An error if a name is left that nobody asked for.
    pub(crate) fn end(self) -> Result<(), String> {
        match self.pairs.first() {
            Some((name, _)) => Err(format!("{name} is not known: {} VALUE", self.known.join(" VALUE, "))),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Arguments, String> {
        Arguments::parse(&text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn numbers_have_defaults_and_unknown_names_are_errors() {
        let mut arguments = parsed("--pairs 7 --odd 1 --tree x").expect("three values");
        assert_eq!((arguments.number("--pairs", 5), arguments.number("--mib", 9)), (Ok(7), Ok(9)));
        assert_eq!((arguments.text("--tree"), arguments.text("--other")), (Some("x".to_owned()), None));
        let names = "--pairs VALUE, --mib VALUE, --tree VALUE, --other VALUE";
        assert_eq!(arguments.end(), Err(format!("--odd is not known: {names}")));
        assert!(parsed("--pairs").is_err());
        for value in ["0", "x"] {
            assert!(parsed(&format!("--pairs {value}")).expect("a value").number("--pairs", 5).is_err(), "{value}");
        }
    }
}
