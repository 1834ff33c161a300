//! What the servers of one instance share.

use http::Uri;

use crate::args::Args;
use crate::call::Caller;
use crate::seen::Seen;

/// One running instance.
pub(crate) struct Instance {
    pub(crate) args: Args,
    pub(crate) name: String,
    pub(crate) seen: Seen,
    pub(crate) caller: Caller,
}

impl Instance {
    pub(crate) fn new(args: Args) -> anyhow::Result<Self> {
        for (flag, base) in [("--dial", &args.dial), ("--dial-grpc", &args.dial_grpc)] {
            if let Some(base) = base {
                check_base(flag, base)?;
            }
        }
        Ok(Self {
            name: args
                .instance
                .clone()
                .unwrap_or_else(|| format!("{}-{}", args.name, args.version)),
            seen: Seen::default(),
            caller: Caller::new(args.dial.clone(), args.dial_grpc.clone()),
            args,
        })
    }
}

fn check_base(flag: &str, base: &Uri) -> anyhow::Result<()> {
    anyhow::ensure!(
        base.scheme_str() == Some("http") && base.authority().is_some() && matches!(base.path(), "" | "/"),
        "{flag} {base}: write http://ADDRESS:PORT"
    );
    Ok(())
}
