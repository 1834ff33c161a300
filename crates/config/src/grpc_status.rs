//! gRPC's status codes (grpc/grpc, doc/statuscodes.md), which are google.rpc.Code's too: names and numbers.

/// The names; a name's place is its number.
pub const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The number of a name, in upper case; none for any other.
pub fn number(name: &str) -> Option<u32> {
    let at = NAMES.iter().position(|known| *known == name)?;
    u32::try_from(at).ok()
}

/// The name of a number; `UNKNOWN` for numbers without one.
pub fn name(number: i32) -> &'static str {
    let at = usize::try_from(number).ok();
    at.and_then(|at| NAMES.get(at)).copied().unwrap_or("UNKNOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_belong_together() {
        assert_eq!((number("UNAVAILABLE"), name(14)), (Some(14), "UNAVAILABLE"));
        assert_eq!(
            (number("unavailable"), name(17), name(-1)),
            (None, "UNKNOWN", "UNKNOWN")
        );
    }
}
