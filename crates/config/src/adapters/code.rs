//! The codes of a decision and their HTTP statuses.

/// A canonical code (google.rpc.Code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code(pub i32);

impl Code {
    /// Not an error.
    pub const OK: Self = Self(0);
    /// A precondition of the request does not hold: a denier's default.
    pub const FAILED_PRECONDITION: Self = Self(9);
    /// The caller may not do this.
    pub const PERMISSION_DENIED: Self = Self(7);
    /// A list does not have the entry.
    pub const NOT_FOUND: Self = Self(5);
    /// A quota is used up.
    pub const RESOURCE_EXHAUSTED: Self = Self(8);
    /// The request cannot be understood.
    pub const INVALID_ARGUMENT: Self = Self(3);
    /// What decides cannot be reached.
    pub const UNAVAILABLE: Self = Self(14);
    /// Mixer could not decide.
    pub const INTERNAL: Self = Self(13);

    /// The canonical name; `UNKNOWN` for numbers without one.
    pub fn name(self) -> &'static str {
        crate::grpc_status::name(self.0)
    }

    /// The HTTP status that stands for the code (google/rpc/code.proto).
    pub fn http(self) -> u16 {
        match self.0 {
            0 => 200,
            1 => 499,
            3 | 9 | 11 => 400,
            4 => 504,
            5 => 404,
            6 | 10 => 409,
            7 => 403,
            8 => 429,
            12 => 501,
            14 => 503,
            16 => 401,
            _ => 500,
        }
    }
}
