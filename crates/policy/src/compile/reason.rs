//! Why a proxy cannot decide something by itself.

/// Why Mixer is asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The proxy does not have the attribute, or not as Mixer has it.
    #[error("it reads {0}, which Mixer alone knows")]
    Attribute(String),
    /// Several services are served at the port, and the request's authority chooses.
    #[error("it reads {0}, which differs from request to request where a port serves several services")]
    Service(String),
    /// An HTTPAPISpec says it.
    #[error("it reads {0}, which an HTTPAPISpec gives")]
    Specified(String),
    /// Entries of a map are chosen by a computed name.
    #[error("it reads {0} by a name that is computed")]
    ComputedKey(String),
    /// Matchers compare with constants alone.
    #[error("it compares two values of the request")]
    TwoValues,
    /// No matcher computes this.
    #[error("{0} is computed by Mixer")]
    Function(&'static str),
    /// A value may be malformed, and then Mixer refuses the request.
    #[error("{0} of a value of the request may fail, and then the request is refused")]
    Malformed(&'static str),
    /// A type that proxies do not compare.
    #[error("it compares values of type {0}")]
    Type(expr::ValueType),
    /// The pattern means something else, or nothing, in RE2.
    #[error("the pattern {0:?} {1}")]
    Pattern(String, &'static str),
    /// The tree of matchers is too large.
    #[error("as matchers it would have more than {} parts", super::MAX_SIZE)]
    Large,
    /// An entry of a list that proxies compare otherwise.
    #[error("the list's entry {0:?} is compared by Mixer")]
    Entry(String),
    /// The refusal's text names a value that a proxy cannot print.
    #[error("its refusal names {0}, which a proxy cannot print")]
    Unprintable(&'static str),
    /// CEL may fail in ways that matchers do not.
    #[error("it is written in CEL, which Mixer evaluates")]
    Cel,
    /// A header is taken away from some requests only.
    #[error("it removes the header {0} from some requests only")]
    Removal(String),
    /// Another rule's operation on the same header is Mixer's, and their order matters.
    #[error("it changes the header {0}, as another rule does that is Mixer's")]
    Shared(String),
    /// Sampling.
    #[error("it is for a sample of the requests")]
    Sampled,
    /// A quota of the same rule goes through the check.
    #[error("a quota of the rule is asked for with it")]
    Quota,
    /// All proxies are granted the units together.
    #[error(
        "all proxies share its units, and a bucket in each proxy would grant them once for each of them (annotate the handler with {}: {}, where each may)",
        crate::QUOTA_SCOPE_ANNOTATION,
        crate::PER_PROXY
    )]
    Pooled,
    /// A QuotaSpec charges some requests, or some more than others.
    #[error("what the quota {0} is charged depends on the request")]
    Chosen(String),
    /// Mixer refuses where a dimension has no value.
    #[error("its dimension {0} may be absent, and then the request is refused; give it a fallback (`|`)")]
    Dimension(String),
    /// Buckets of one filter have one size.
    #[error("its limit depends on the dimension {0} of the request (overrides)")]
    Override(String),
    /// Buckets are filled every 50 ms at most, and never not at all.
    #[error("the validDuration of {0} is below 50 ms, or missing")]
    Window(String),
    /// A bucket without tokens.
    #[error("{0} never grants what a request is charged")]
    NoUnits(String),
    /// An access log entry has it, the proxy itself has not, or otherwise.
    #[error("it reads {0}, which a proxy does not have as its access log entry tells Mixer")]
    Unlogged(String),
    /// CEL that takes long to evaluate.
    #[error("as CEL it would be too long for a proxy")]
    Long,
    /// Its annotation says so.
    #[error("it is annotated {}: {}", crate::REPORTS_ANNOTATION, crate::REPORTS_TO_MIXER)]
    Told,
    /// Connections are reported more than once, by what has changed.
    #[error("connections are reported as they go on, and Mixer keeps account")]
    Connections,
    /// Buckets cannot be given to a proxy that runs.
    #[error("{0} is a distribution, and a proxy's buckets are set when it starts")]
    Distribution(String),
    /// Proxies keep all series.
    #[error("{0} has an expiry, and a proxy forgets no series")]
    Expiry(String),
    /// The name is taken.
    #[error("proxies have a metric {0} of their own")]
    Standard(String),
    /// Proxies count in whole numbers.
    #[error("its value may be a fraction or negative, and proxies count in whole numbers")]
    Fraction,
    /// A label's value has a type that is written otherwise, or never twice.
    #[error("a label is of type {0}")]
    Label(expr::ValueType),
    /// A handler's file is below Mixer's folder for them.
    #[error("the file of {0} is Mixer's")]
    File(String),
    /// Text that holds JSON.
    #[error("{0} writes lines of text, and proxies write JSON (outputAsJson)")]
    PlainLines(String),
    /// A template that proxies have no lines for.
    #[error("{0} writes instances of {1}, and proxies write log entries")]
    Template(String, String),
    /// A field of log entries that proxies do not write.
    #[error("the log entry has {0}")]
    Field(String),
    /// An adapter that runs in Mixer.
    #[error("the adapter of {0} runs in Mixer")]
    Adapter(String),
}
