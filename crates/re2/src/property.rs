//! Unicode's groups that RE2 and Go both know: `\p{Greek}`, `\pL`.

/// General categories of RE2 (re2/unicode_groups.cc).
const CATEGORIES: &[&str] = &[
    "C", "Cc", "Cf", "Co", "Cs", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl",
    "No", "P", "Pc", "Pd", "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
];

/// Scripts of Unicode 15, in order: what Go knows, and Envoy too.
#[rustfmt::skip]
const SCRIPTS: &[&str] = &[
    "Adlam", "Ahom", "Anatolian_Hieroglyphs", "Arabic", "Armenian", "Avestan", "Balinese", "Bamum", "Bassa_Vah", "Batak",
    "Bengali", "Bhaiksuki", "Bopomofo", "Brahmi", "Braille", "Buginese", "Buhid", "Canadian_Aboriginal", "Carian",
    "Caucasian_Albanian", "Chakma", "Cham", "Cherokee", "Chorasmian", "Common", "Coptic", "Cuneiform", "Cypriot",
    "Cypro_Minoan", "Cyrillic", "Deseret", "Devanagari", "Dives_Akuru", "Dogra", "Duployan", "Egyptian_Hieroglyphs",
    "Elbasan", "Elymaic", "Ethiopic", "Georgian", "Glagolitic", "Gothic", "Grantha", "Greek", "Gujarati",
    "Gunjala_Gondi", "Gurmukhi", "Han", "Hangul", "Hanifi_Rohingya", "Hanunoo", "Hatran", "Hebrew", "Hiragana",
    "Imperial_Aramaic", "Inherited", "Inscriptional_Pahlavi", "Inscriptional_Parthian", "Javanese", "Kaithi", "Kannada",
    "Katakana", "Kawi", "Kayah_Li", "Kharoshthi", "Khitan_Small_Script", "Khmer", "Khojki", "Khudawadi", "Lao", "Latin",
    "Lepcha", "Limbu", "Linear_A", "Linear_B", "Lisu", "Lycian", "Lydian", "Mahajani", "Makasar", "Malayalam", "Mandaic",
    "Manichaean", "Marchen", "Masaram_Gondi", "Medefaidrin", "Meetei_Mayek", "Mende_Kikakui", "Meroitic_Cursive",
    "Meroitic_Hieroglyphs", "Miao", "Modi", "Mongolian", "Mro", "Multani", "Myanmar", "Nabataean", "Nag_Mundari",
    "Nandinagari", "New_Tai_Lue", "Newa", "Nko", "Nushu", "Nyiakeng_Puachue_Hmong", "Ogham", "Ol_Chiki", "Old_Hungarian",
    "Old_Italic", "Old_North_Arabian", "Old_Permic", "Old_Persian", "Old_Sogdian", "Old_South_Arabian", "Old_Turkic",
    "Old_Uyghur", "Oriya", "Osage", "Osmanya", "Pahawh_Hmong", "Palmyrene", "Pau_Cin_Hau", "Phags_Pa", "Phoenician",
    "Psalter_Pahlavi", "Rejang", "Runic", "Samaritan", "Saurashtra", "Sharada", "Shavian", "Siddham", "SignWriting",
    "Sinhala", "Sogdian", "Sora_Sompeng", "Soyombo", "Sundanese", "Syloti_Nagri", "Syriac", "Tagalog", "Tagbanwa",
    "Tai_Le", "Tai_Tham", "Tai_Viet", "Takri", "Tamil", "Tangsa", "Tangut", "Telugu", "Thaana", "Thai", "Tibetan",
    "Tifinagh", "Tirhuta", "Toto", "Ugaritic", "Vai", "Vithkuqi", "Wancho", "Warang_Citi", "Yezidi", "Yi",
    "Zanabazar_Square",
];

/// A group for a class of Rust's `regex`; none if there is no such group. Categories without characters in UTF-8 match
/// nothing.
pub(crate) fn rust(name: &str, negated: bool) -> Option<String> {
    let sign = if negated { 'P' } else { 'p' };
    let caret = if negated { "^" } else { "" };
    match name {
        "Any" => Some(format!("\\{sign}{{any}}")),
        // RE2's has no unassigned characters, and surrogates are in no text.
        "C" => Some(format!("[{caret}\\p{{Cc}}\\p{{Cf}}\\p{{Co}}]")),
        "Cs" if negated => Some("\\p{any}".to_owned()),
        "Cs" => Some("\\P{any}".to_owned()),
        name if CATEGORIES.contains(&name) => Some(format!("\\{sign}{{{name}}}")),
        name => SCRIPTS
            .binary_search(&name)
            .is_ok()
            .then(|| format!("\\{sign}{{Script={name}}}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_one_for_rust_too() {
        assert!(SCRIPTS.is_sorted());
        for name in CATEGORIES.iter().chain(SCRIPTS).chain(&["Any"]) {
            for negated in [false, true] {
                let class = rust(name, negated).unwrap();
                assert!(regex_syntax::parse(&format!("[{class}]")).is_ok(), "{class}");
            }
        }
        assert_eq!(rust("greek", false), None);
        assert_eq!(rust("Cn", false), None);
    }
}
