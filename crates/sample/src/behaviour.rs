//! How a request asks the application to misbehave: `?delay=100ms`, `?status=503`, `?fail=2` or `?fail=1-of-3`.
//!
//! Parsing alone: it waits for nothing and counts nothing.

use std::time::Duration;

use http::StatusCode;

/// The longest delay that a request may ask for.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(60);

/// What one request asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Behaviour {
    /// Wait this long before answering.
    pub(crate) delay: Duration,
    /// The status of the answer; of a failing one where `fail` is given.
    pub(crate) status: StatusCode,
    /// Which requests fail; all answer with `status` when there is none.
    pub(crate) fail: Option<Fail>,
    /// Requests with the same id are counted together for `fail`; the request id when not given.
    pub(crate) id: Option<String>,
}

/// The first `count` requests with one id fail, or the first `count` of every `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fail {
    count: u64,
    of: Option<u64>,
}

impl Fail {
    /// Whether the request fails that comes as number `attempt` (from 1) with its id.
    pub(crate) fn fails(self, attempt: u64) -> bool {
        match self.of {
            Some(of) => (attempt.saturating_sub(1)) % of < self.count,
            None => attempt <= self.count,
        }
    }
}

/// A query parameter that cannot be understood.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum BadQuery {
    #[error("delay={0}: a delay is a number with ms or s, at most 60s, like 100ms or 1.5s")]
    Delay(String),
    #[error("status={0}: a status is a number from 200 to 599")]
    Status(String),
    #[error("fail={0}: write N (the first N requests with one id) or N-of-M (the first N of every M)")]
    Fail(String),
}

impl Behaviour {
    /// Reads the parameters that concern behaviour; others are the caller's own.
    pub(crate) fn parse(query: &[(String, String)]) -> Result<Self, BadQuery> {
        let get = |name: &str| {
            query
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.as_str())
        };
        let fail = get("fail").map(parse_fail).transpose()?;
        let default = if fail.is_some() {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::OK
        };
        Ok(Self {
            delay: get("delay").map(parse_delay).transpose()?.unwrap_or_default(),
            status: get("status").map(parse_status).transpose()?.unwrap_or(default),
            fail,
            id: get("id").map(str::to_owned),
        })
    }
}

/// Reads `100ms`, `2s`, `1.5s`.
pub(crate) fn parse_delay(text: &str) -> Result<Duration, BadQuery> {
    let bad = || BadQuery::Delay(text.to_owned());
    let (number, unit) = match text.strip_suffix("ms") {
        Some(number) => (number, 0.001),
        None => (text.strip_suffix('s').ok_or_else(bad)?, 1.0),
    };
    let seconds = number.parse::<f64>().map_err(|_| bad())? * unit;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|delay| *delay <= MAX_DELAY)
        .ok_or_else(bad)
}

fn parse_status(text: &str) -> Result<StatusCode, BadQuery> {
    let code = text.parse().ok().filter(|code| (200..600).contains(code));
    code.and_then(|code: u16| StatusCode::from_u16(code).ok())
        .ok_or_else(|| BadQuery::Status(text.to_owned()))
}

fn parse_fail(text: &str) -> Result<Fail, BadQuery> {
    let bad = || BadQuery::Fail(text.to_owned());
    let number = |part: &str| part.parse::<u64>().map_err(|_| bad());
    match text.split_once("-of-") {
        Some((count, of)) => {
            let (count, of) = (number(count)?, number(of)?);
            if of == 0 {
                Err(bad())
            } else {
                Ok(Fail { count, of: Some(of) })
            }
        }
        None => Ok(Fail {
            count: number(text)?,
            of: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &str) -> Result<Behaviour, BadQuery> {
        let pairs: Vec<_> = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Behaviour::parse(&pairs)
    }

    #[test]
    fn a_plain_request_is_answered_at_once_with_200() {
        let behaviour = parse("").unwrap();
        assert_eq!(
            (behaviour.delay, behaviour.status, behaviour.fail),
            (Duration::ZERO, StatusCode::OK, None)
        );
    }

    #[test]
    fn delays_have_units_and_a_bound() {
        for (text, expected) in [("100ms", 100), ("2s", 2000), ("1.5s", 1500), ("60s", 60_000)] {
            assert_eq!(parse_delay(text), Ok(Duration::from_millis(expected)), "{text}");
        }
        for text in ["100", "-1s", "61s", "NaNs", "infs", "", "s", "1e300s"] {
            assert!(parse_delay(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_status_is_one_that_a_server_can_answer_with() {
        assert_eq!(parse("status=418").unwrap().status, StatusCode::IM_A_TEAPOT);
        for text in ["status=100", "status=600", "status=x", "status=-1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn failures_come_first_and_with_of_come_again() {
        let seen = |query: &str| -> Vec<bool> {
            let fail = parse(query).unwrap().fail.unwrap();
            (1..=5).map(|attempt| fail.fails(attempt)).collect()
        };
        assert_eq!(seen("fail=2"), [true, true, false, false, false]);
        assert_eq!(seen("fail=1-of-2"), [true, false, true, false, true]);
        assert_eq!(parse("fail=1").unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            parse("fail=1&status=500").unwrap().status,
            StatusCode::INTERNAL_SERVER_ERROR
        );
        for text in ["fail=x", "fail=1-of-0", "fail=-1", "fail="] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
