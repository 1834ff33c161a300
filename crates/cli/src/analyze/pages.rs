//! The page of each message, as in docs/analysis, for people who have the command alone.

use analysis::Code;
use anyhow::Context;

macro_rules! pages {
    ($($id:ident)*) => {
        /// All pages, by code.
        const PAGES: &[(&str, &str)] = &[
            $((stringify!($id), include_str!(concat!("../../../../docs/analysis/", stringify!($id), ".md"))),)*
        ];
    };
}

pages! {
    ARG0001 ARG0002 ARG0003 IST0001 IST0002 IST0101 IST0102 IST0103 IST0106 IST0107 IST0108 IST0109 IST0110
    IST0111 IST0112 IST0116 IST0118 IST0123 IST0125 IST0126 IST0127 IST0128 IST0129 IST0130 IST0131
    IST0132 IST0133 IST0134 IST0135 IST0136 IST0137 IST0138 IST0139 IST0140 IST0141 IST0142 IST0143
    IST0144 IST0145 IST0146 IST0147 IST0148 IST0149 IST0150 IST0151 IST0152 IST0153 IST0154 IST0155
    IST0156 IST0157 IST0158 IST0159 IST0160 IST0161 IST0162 IST0163 IST0164 IST0165 IST0166 IST0167
    IST0168 IST0169 IST0170 IST0171 IST0172 IST0173 IST0174 IST0175 IST0176 IST0177
}

/// The message with that code or name, in whatever case.
pub(super) fn find(name: &str) -> anyhow::Result<Code> {
    let is = |code: &&Code| code.id().eq_ignore_ascii_case(name) || code.name().eq_ignore_ascii_case(name);
    let found = Code::ALL.iter().find(is).copied();
    found.with_context(|| format!("--explain {name}: there is no such message; codes are like IST0101"))
}

/// The page, in Markdown.
pub(super) fn of(code: Code) -> &'static str {
    let page = PAGES.iter().find(|(id, _)| *id == code.id());
    page.map_or("", |(_, text)| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_has_its_page() {
        for &code in Code::ALL {
            let title = format!("# {} {}\n", code.id(), code.name());
            assert!(of(code).starts_with(&title), "{code}: {}", of(code));
        }
        assert_eq!(PAGES.len(), Code::ALL.len());
    }

    #[test]
    fn messages_are_found_by_code_and_by_name() {
        for name in ["IST0101", "ist0101", "ReferencedResourceNotFound"] {
            assert_eq!(find(name).ok(), Some(Code::ReferencedResourceNotFound), "{name}");
        }
        let error = find("IST0104").map_err(|error| error.to_string());
        assert!(error.is_err_and(|error| error.contains("no such message")));
    }
}
