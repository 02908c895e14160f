//! Session passwords as every ZooKeeper server derives them: a function of the session id alone, so that any member of a mixed
//! ensemble can verify them.

use crate::base::SessionId;
use crate::proto::connect::Password;

/// Mixed into the session id to seed the generator.
const SECRET: i64 = 0xB341_5C00;
/// The linear congruential generator of `java.util.Random`.
const MULTIPLIER: u64 = 0x5_DEEC_E66D;
const INCREMENT: u64 = 0xB;
const MASK: u64 = (1 << 48) - 1;

/// The password of a session.
#[must_use]
pub fn derived_password(session: SessionId) -> Password {
    let mut state = ((session.0 ^ SECRET) as u64 ^ MULTIPLIER) & MASK;
    let mut password = Password::default();
    for word in password.chunks_exact_mut(4) {
        state = state.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT) & MASK;
        word.copy_from_slice(&((state >> 16) as u32).to_le_bytes());
    }
    password
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_as_the_reference_server_derives_them() {
        let hex = |id| derived_password(SessionId(id)).iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(hex(0x0100_000d_8718_0000), "5a97fea1df7eee14c82a1d2fc02fddb9");
        assert_eq!(hex(0x0100_000f_9457_0013), "76e396668d6e6bd54858196c47b82992");
        assert_eq!(hex(0x0100_0024_5f1c_0007), "df0840611bc0d10ed4c87235f715bea8");
    }
}
