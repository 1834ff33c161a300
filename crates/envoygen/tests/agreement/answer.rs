//! What an Envoy answered, and whether that is what was simulated.

use simulate::{Call, Unavailable, Verdict};

/// What is seen of one request.
#[derive(Debug)]
pub(crate) struct Seen {
    status: u16,
    location: Option<String>,
    /// The request's first line and host as the application got them; none where it got nothing.
    path: Option<String>,
    host: Option<String>,
    route: String,
    cluster: String,
    endpoint: String,
}

impl Seen {
    /// `text` is the answer, `line` what the access log says: route, cluster, endpoint.
    pub(crate) fn new(text: &str, line: &str) -> Seen {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let of = |head: &str, wanted: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let mut own = lines.filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            own.next().map(|(_, value)| value.to_owned())
        };
        let words: Vec<&str> = line.split(' ').collect();
        // Without an endpoint the body is the proxy's own.
        let echoed = words[2] != "-";
        let path = body.split(' ').nth(1).map(str::to_owned);
        Seen {
            status: status.unwrap_or_default(),
            location: of(head, "location"),
            path: path.filter(|_| echoed),
            host: of(body, "host").filter(|_| echoed),
            route: words[0].to_owned(),
            cluster: words[1].to_owned(),
            endpoint: words[2].to_owned(),
        }
    }

    /// Whether it is as simulated; else in what it differs.
    pub(crate) fn agrees(&self, verdict: &Verdict) -> Result<(), &'static str> {
        let same = |yes: bool, what| if yes { Ok(()) } else { Err(what) };
        same(self.route == verdict.route.as_deref().unwrap_or("-"), "route")?;
        if verdict.cluster.is_none() && !verdict.clusters.is_empty() {
            return self.is_one_of(&verdict.clusters);
        }
        same(self.status == verdict.status.unwrap_or(200), "status")?;
        same(self.location == verdict.location, "location")?;
        match (&verdict.cluster, verdict.unavailable) {
            (Some(_), Some(Unavailable::NoCluster)) => same(self.cluster == "-", "cluster")?,
            (Some(cluster), _) => same(self.cluster == *cluster, "cluster")?,
            (None, _) => {}
        }
        if verdict.status.is_some() {
            return same(self.endpoint == "-", "endpoint of what the proxy answers itself");
        }
        let mut endpoints = verdict.endpoints.iter().filter(|endpoint| endpoint.healthy);
        same(
            endpoints.any(|endpoint| endpoint.address == self.endpoint),
            "endpoint",
        )?;
        same(self.path == verdict.path, "path")?;
        same(self.host == verdict.host, "host")
    }

    /// Chance decides among clusters: one of them was used, or one that the proxy does not have, which its log does not name.
    fn is_one_of(&self, clusters: &[(String, u32)]) -> Result<(), &'static str> {
        let mut possible = clusters.iter().filter(|(_, weight)| *weight > 0);
        let routed = possible.any(|(name, _)| *name == self.cluster);
        match (routed, self.status, self.endpoint.as_str()) {
            (true, 200, endpoint) if endpoint != "-" => Ok(()),
            (true, 503, "-") => Ok(()),
            (false, 503, "-") if self.cluster == "-" => Ok(()),
            _ => Err("possible clusters"),
        }
    }
}

/// What a request meets, in a word.
pub(crate) fn kind(verdict: &Verdict, call: &Call) -> &'static str {
    match (verdict.unavailable, &verdict.location, verdict.status) {
        (Some(Unavailable::NoCluster), _, _) => "no cluster",
        (Some(Unavailable::NoEndpoints), _, _) => "no endpoints",
        (_, Some(_), _) => "redirect",
        _ if verdict.error.is_some() => "no route",
        (_, _, Some(_)) => "answer",
        _ if verdict.cluster.is_none() => "one of several",
        _ if verdict.path.as_ref() != Some(&call.path) => "rewritten",
        _ => "routed",
    }
}
