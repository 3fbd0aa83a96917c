//! Tests of sealing and opening.

use proptest::prelude::*;

use super::*;

/// Repeats the same 16 bytes.
struct FixedRandom([u8; 16]);

impl Random for FixedRandom {
    fn fill(&self, buffer: &mut [u8]) {
        for (to, from) in buffer.iter_mut().zip(self.0.iter().cycle()) {
            *to = *from;
        }
    }
}

fn counting_key() -> MasterKey {
    let ascending = |from: u8| -> [u8; 16] { std::array::from_fn(|index| from + index as u8) };
    MasterKey::from_parts(std::array::from_fn(|index| index as u8), ascending(0x20), ascending(0xf0)).unwrap()
}

fn iv_from_one() -> FixedRandom {
    FixedRandom(std::array::from_fn(|index| index as u8 + 1))
}

/// The vector of the format description: made by other code, and accepted by stock restic.
const HELLO: &str = "0102030405060708090a0b0c0d0e0f10feeb4aabe4b934c1b7df2c05ef2c372130f4c4ceed";

#[test]
fn sealing_gives_the_known_bytes() {
    let key = counting_key();
    let sealed = key.seal(b"hello", &iv_from_one()).unwrap();
    assert_eq!(data_encoding::HEXLOWER.encode(&sealed), HELLO);
    assert_eq!(key.open(&sealed).unwrap(), b"hello");

    let mut buffer = [&[0; IV_LENGTH], &b"hello"[..]].concat();
    key.seal_in_place(&mut buffer, &iv_from_one()).unwrap();
    assert_eq!(buffer, sealed);

    let mut writer = SealWriter::new(&key, Vec::new(), &iv_from_one()).unwrap();
    writer.write_all(b"he").unwrap();
    writer.write_all(b"llo").unwrap();
    let written = writer.finish().unwrap();
    assert_eq!(written.output, sealed);
    assert_eq!(written.sealed_length, 37);
    assert_eq!(written.digest.finalize(), Sha256::digest(&sealed));
}

#[test]
fn counter_is_128_bits_wide_and_wraps() {
    let key = counting_key();
    let sealed = key.seal(&[0; 48], &FixedRandom([0xff; 16])).unwrap();
    let block = |counter: u128| -> [u8; 16] {
        let mut block = counter.to_be_bytes().into();
        Aes256::new(&key.encrypt.into()).encrypt_block(&mut block);
        block.into()
    };
    assert_eq!(sealed[16..64], [block(u128::MAX), block(0), block(1)].concat());
}

#[test]
fn mask_is_clamped_when_used() {
    let key = counting_key();
    let mut clamped = key.mac_r;
    for (byte, kept) in
        clamped.iter_mut().zip([0xff, 0xff, 0xff, 0x0f].into_iter().chain([0xfc, 0xff, 0xff, 0x0f].into_iter().cycle()))
    {
        *byte &= kept;
    }
    let other = MasterKey::from_parts(key.encrypt, key.mac_k, clamped).unwrap();
    assert_ne!(other, key);
    assert_eq!(other.open(&key.seal(b"x", &iv_from_one()).unwrap()).unwrap(), b"x");
}

#[test]
fn zero_keys_and_nonces_are_refused() {
    let zero = |part| CryptoError::ZeroKey { part };
    assert_eq!(MasterKey::from_parts([0; 32], [1; 16], [1; 16]), Err(zero("encryption key")));
    assert_eq!(MasterKey::from_parts([1; 32], [0; 16], [1; 16]), Err(zero("MAC key")));
    assert_eq!(MasterKey::from_parts([1; 32], [1; 16], [0; 16]), Err(zero("MAC mask")));
    let broken = FixedRandom([0; 16]);
    assert_eq!(counting_key().seal(b"", &broken), Err(CryptoError::ZeroNonce));
    assert_eq!(counting_key().seal_in_place(&mut vec![0; 16], &broken), Err(CryptoError::ZeroNonce));
    assert!(SealWriter::new(&counting_key(), Vec::new(), &broken).is_err());
    assert!(MasterKey::generate(&broken).is_err());
}

#[test]
fn debug_shows_no_secret() {
    assert_eq!(format!("{:?}", counting_key()), "MasterKey(redacted)");
}

#[test]
fn what_is_too_short_is_refused() {
    for length in 0..OVERHEAD {
        assert_eq!(counting_key().open(&vec![7; length]), Err(CryptoError::TooShort { length }));
    }
    assert_eq!(counting_key().open(&[7; OVERHEAD]), Err(CryptoError::BadTag));
    let mut no_room = vec![0; 3];
    assert_eq!(counting_key().seal_in_place(&mut no_room, &iv_from_one()), Err(CryptoError::TooShort { length: 3 }));
}

proptest! {
    #[test]
    fn every_way_of_sealing_and_opening_agrees(
        plain in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            prop::collection::vec(any::<u8>(), STRIDE - 20..STRIDE + 20),
        ],
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        // No zeros: neither a key nor an IV of zeros only is taken.
        material in prop::collection::vec(1_u8.., 64),
        iv in prop::collection::vec(1_u8.., IV_LENGTH),
    ) {
        let key = MasterKey::from_material(material.as_slice().try_into().unwrap()).unwrap();
        let iv = FixedRandom(iv.try_into().unwrap());
        let sealed = key.seal(&plain, &iv).unwrap();

        let mut in_place = [&[0; IV_LENGTH], &plain[..]].concat();
        key.seal_in_place(&mut in_place, &iv).unwrap();
        prop_assert_eq!(&in_place, &sealed);

        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(plain.len() + 1)).collect();
        cuts.extend([0, plain.len()]);
        cuts.sort_unstable();
        let mut writer = SealWriter::new(&key, Vec::new(), &iv).unwrap();
        for pair in cuts.windows(2) {
            writer.write_all(&plain[pair[0]..pair[1]]).unwrap();
        }
        prop_assert_eq!(&writer.finish().unwrap().output, &sealed);

        prop_assert_eq!(&key.open(&sealed).unwrap(), &plain);
        prop_assert_eq!(&*key.open_in_place(&mut in_place).unwrap(), &plain[..]);
        let mut streamed = Vec::new();
        OpenReader::new(&key, sealed.into()).unwrap().read_to_end(&mut streamed).unwrap();
        prop_assert_eq!(&streamed, &plain);
    }

    #[test]
    fn any_flipped_bit_and_any_cut_is_noticed(
        plain in prop::collection::vec(any::<u8>(), 0..100),
        at in any::<prop::sample::Index>(),
        bit in 0..8u8,
    ) {
        let key = counting_key();
        let sealed = key.seal(&plain, &iv_from_one()).unwrap();
        let mut flipped = sealed.clone();
        flipped[at.index(sealed.len())] ^= 1 << bit;
        prop_assert_eq!(key.open(&flipped), Err(CryptoError::BadTag));
        prop_assert!(key.open_in_place(&mut flipped).is_err());
        prop_assert!(OpenReader::new(&key, flipped.into()).is_err());
        prop_assert!(key.open(&sealed[..at.index(sealed.len())]).is_err());
    }
}
