//! Randomness of the operating system.

use proto::handles::Random;

/// Random bytes of the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemRandom;

impl Random for SystemRandom {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that asks the kernel")]
    fn fill(&self, buffer: &mut [u8]) {
        if let Err(error) = getrandom::fill(buffer) {
            // Without randomness nothing may be encrypted; there is no way to go on.
            panic!("the kernel gives no random bytes: {error}");
        }
    }
}
