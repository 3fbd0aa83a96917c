//! CRC-64/NVME, the checksum that Azure Storage calls CRC64: reflected, polynomial 0xAD93D23594C93659, inverted at both
//! ends. Eight bytes a step, each through a table of its own.

const POLYNOMIAL_REFLECTED: u64 = 0x9A6C_9329_AC4B_C9B5;
/// `TABLES[n][b]`: what the byte `b` comes to after `n` more zero bytes.
static TABLES: [[u64; 256]; 8] = tables();

const fn tables() -> [[u64; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut value = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { (value >> 1) ^ POLYNOMIAL_REFLECTED } else { value >> 1 };
            bit += 1;
        }
        tables[0][byte] = value;
        byte += 1;
    }
    let mut table = 1;
    while table < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[table - 1][byte];
            tables[table][byte] = (before >> 8) ^ tables[0][(before & 0xFF) as usize];
            byte += 1;
        }
        table += 1;
    }
    tables
}

/// The checksum of `bytes`.
pub(super) fn crc64(bytes: &[u8]) -> u64 {
    let mut state = u64::MAX;
    let (steps, rest) = bytes.as_chunks::<8>();
    for step in steps {
        let mixed = (state ^ u64::from_le_bytes(*step)).to_le_bytes();
        state = 0;
        for (position, byte) in mixed.into_iter().enumerate() {
            state ^= TABLES[7 - position][usize::from(byte)];
        }
    }
    for byte in rest {
        state = (state >> 8) ^ TABLES[0][usize::from(state as u8 ^ byte)];
    }
    !state
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bit by bit, as the definition has it.
    fn plain(bytes: &[u8]) -> u64 {
        let mut state = u64::MAX;
        for byte in bytes {
            state ^= u64::from(*byte);
            for _ in 0..8 {
                state = if state & 1 == 1 { (state >> 1) ^ POLYNOMIAL_REFLECTED } else { state >> 1 };
            }
        }
        !state
    }

    #[test]
    fn the_check_value_is_that_of_the_catalogue() {
        assert_eq!(crc64(b"123456789"), 0xAE8B_1486_0A79_9888);
        assert_eq!(crc64(b""), 0);
    }

    proptest! {
        #[test]
        fn tables_and_bits_agree(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(crc64(&bytes), plain(&bytes));
        }
    }
}
