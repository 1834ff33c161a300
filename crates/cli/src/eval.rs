//! `argosy eval`: tries an expression of Mixer's on attributes that the caller writes down.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use expr::{
    Attributes, Bag, Expression, Language, Manifest, References, Speaking, StringLookup, Timestamp, Value,
    ValueType, Vocabulary, parse_duration,
};
use serde_json::{Value as Json, json};

/// Largest file of attributes, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Attributes that are headers.
const HEADERS: [&str; 2] = ["request.headers", "response.headers"];

/// Flags of `argosy eval`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The expression
    #[arg(value_name = "EXPR")]
    expression: String,
    /// The expression's language; rules choose by the annotation policy.istio.io/lang
    #[arg(long, value_enum, default_value_t = Lang::Cexl)]
    lang: Lang,
    /// An attribute, NAME=VALUE, or an entry of a map, NAME[KEY]=VALUE; or a file (YAML or JSON) of attributes by name, maps as
    /// objects. May be repeated; later ones count
    #[arg(short, long = "attributes", value_name = "FILE|NAME=VALUE")]
    attributes: Vec<String>,
    /// An attribute beside Istio's, and its type, as an attributemanifest would declare it. May be repeated
    #[arg(long = "declare", value_name = "NAME=TYPE")]
    declared: Vec<String>,
    /// Form of the output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Lang {
    Cexl,
    Cel,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// The attributes that were given.
#[derive(Debug, Default)]
struct Given {
    others: Bag,
    /// Those that are headers, whose names have no case, as in requests.
    headers: BTreeMap<String, Headers>,
}

/// Headers by name in lower case.
#[derive(Debug, Default)]
struct Headers(BTreeMap<String, String>);

impl StringLookup for Headers {
    fn lookup(&self, key: &str) -> Option<&str> {
        self.0.get(&key.to_ascii_lowercase()).map(String::as_str)
    }

    fn entries(&self) -> Vec<(&str, &str)> {
        self.0.entries()
    }
}

impl Attributes for Given {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        match self.headers.get(name) {
            Some(headers) => Some(Value::Map(headers)),
            None => self.others.get(name),
        }
    }
}

/// What became of an expression.
enum Outcome {
    /// It does not compile: where, and why.
    Refused(Option<usize>, String),
    /// It has no value for these attributes.
    NoValue(ValueType, String, References),
    /// Its value.
    Value(ValueType, Json, References),
}

/// Evaluates; succeeds when there is a value.
pub(crate) fn run(args: &Args) -> ExitCode {
    match evaluate(args).and_then(|outcome| print(args, &outcome).map(|()| outcome)) {
        Ok(Outcome::Value(..)) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("argosy: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn evaluate(args: &Args) -> Result<Outcome> {
    let mut manifest = Manifest::standard();
    for declared in &args.declared {
        let Some((name, ty)) = declared.split_once('=') else {
            bail!("--declare {declared}: write NAME=TYPE");
        };
        let ty: ValueType = ty.parse().map_err(anyhow::Error::msg)?;
        if let Err(known) = manifest.declare(name, ty) {
            bail!("--declare {declared}: {name} is {known} already");
        }
    }
    let bag = bag(&args.attributes, &manifest)?;
    let language = match args.lang {
        Lang::Cexl => Language::Cexl,
        Lang::Cel => Language::Cel,
    };
    let compiled = Expression::compile(&args.expression, &Speaking(&manifest, language));
    let expression = match compiled {
        Ok(expression) => expression,
        Err(error) => {
            return Ok(Outcome::Refused(
                error.column(&args.expression),
                error.to_string(),
            ));
        }
    };
    let mut references = References::new();
    let value = expression.eval_tracked(&bag, &mut references);
    Ok(match value {
        Ok(value) => Outcome::Value(expression.ty(), shown(&value), references),
        Err(error) => Outcome::NoValue(expression.ty(), error.to_string(), references),
    })
}

fn shown(value: &Value<'_>) -> Json {
    match value {
        Value::Int(number) => json!(number),
        Value::Double(number) => json!(number),
        Value::Bool(truth) => json!(truth),
        Value::Map(map) => map
            .entries()
            .into_iter()
            .map(|(k, v)| (k.to_owned(), json!(v)))
            .collect(),
        other => json!(other.to_string()),
    }
}

fn print(args: &Args, outcome: &Outcome) -> Result<()> {
    let text = match args.output {
        Output::Json => serde_json::to_string_pretty(&as_json(outcome))? + "\n",
        Output::Text => as_text(&args.expression, outcome),
    };
    crate::output::print(&text)
}

fn as_json(outcome: &Outcome) -> Json {
    let list = |references: &References| references.iter().map(ToString::to_string).collect::<Vec<_>>();
    match outcome {
        Outcome::Refused(column, error) => {
            json!({"error": {"stage": "compile", "column": column, "message": error}})
        }
        Outcome::NoValue(ty, error, references) => json!({
            "type": ty.name(),
            "error": {"stage": "eval", "message": error},
            "referenced": list(references),
        }),
        Outcome::Value(ty, value, references) => json!({
            "type": ty.name(),
            "value": value,
            "referenced": list(references),
        }),
    }
}

fn as_text(expression: &str, outcome: &Outcome) -> String {
    let looked_at = |references: &References| -> String {
        let names: Vec<String> = references.iter().map(ToString::to_string).collect();
        match names.is_empty() {
            true => "looked at nothing\n".to_owned(),
            false => format!("looked at {} (- marks what is absent)\n", names.join(", ")),
        }
    };
    match outcome {
        Outcome::Refused(column, error) => {
            let mark = column.filter(|_| !expression.contains('\n'));
            let mark = mark.map_or_else(String::new, |column| {
                format!("  {expression}\n  {}^\n", " ".repeat(column.saturating_sub(1)))
            });
            format!("does not compile: {error}\n{mark}")
        }
        Outcome::NoValue(ty, error, references) => {
            format!("{ty}, but no value: {error}\n{}", looked_at(references))
        }
        Outcome::Value(ty, value, references) => {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!("{ty} {value}\n{}", looked_at(references))
        }
    }
}

/// The attributes that were given, each read by its type.
fn bag(given: &[String], vocabulary: &dyn Vocabulary) -> Result<Given> {
    let mut scalars: BTreeMap<String, Json> = BTreeMap::new();
    let mut maps: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for one in given {
        match one.split_once('=') {
            Some((name, value)) => match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
                Some((map, key)) => {
                    let key = key.trim_matches(['"', '\'']).to_owned();
                    maps.entry(map.to_owned())
                        .or_default()
                        .insert(key, value.to_owned());
                }
                None => {
                    scalars.insert(name.to_owned(), Json::String(value.to_owned()));
                }
            },
            None => file(Path::new(one), &mut scalars, &mut maps)?,
        }
    }
    let mut given = Given::default();
    for (name, value) in scalars {
        let value = read(&name, &value, vocabulary)?;
        given.others.set(name, value);
    }
    for (name, entries) in maps {
        match vocabulary.attribute(&name) {
            Some(ValueType::StringMap) if HEADERS.contains(&name.as_str()) => {
                let entries = entries
                    .into_iter()
                    .map(|(key, value)| (key.to_ascii_lowercase(), value));
                given.headers.insert(name, Headers(entries.collect()));
            }
            Some(ValueType::StringMap) => _ = given.others.set_map(name, entries),
            Some(ty) => bail!("attribute {name} is {ty}, so it has no entries"),
            None => bail!("{}", unknown(&name, vocabulary)),
        }
    }
    Ok(given)
}

fn file(
    path: &Path,
    scalars: &mut BTreeMap<String, Json>,
    maps: &mut BTreeMap<String, BTreeMap<String, String>>,
) -> Result<()> {
    let what = || format!("attributes in {} (NAME=VALUE gives one)", path.display());
    let size = fs::metadata(path).with_context(what)?.len();
    if size > MAX_FILE {
        bail!("{}: {size} bytes, more than {MAX_FILE}", path.display());
    }
    let text = fs::read_to_string(path).with_context(what)?;
    let attributes: BTreeMap<String, Json> = serde_saphyr::from_str(&text).with_context(what)?;
    for (name, value) in attributes {
        match value {
            Json::Object(entries) => {
                let text = |value: Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let entries = entries.into_iter().map(|(key, value)| (key, text(value)));
                maps.entry(name).or_default().extend(entries);
            }
            value => {
                scalars.insert(name, value);
            }
        }
    }
    Ok(())
}

fn unknown(name: &str, vocabulary: &dyn Vocabulary) -> String {
    match vocabulary.nearest(name) {
        Some(nearest) => format!("unknown attribute {name}; did you mean {nearest}?"),
        None => format!("unknown attribute {name}; declare it: --declare {name}=STRING"),
    }
}

/// A value by its attribute's type.
fn read(name: &str, value: &Json, vocabulary: &dyn Vocabulary) -> Result<Value<'static>> {
    let Some(ty) = vocabulary.attribute(name) else {
        bail!("{}", unknown(name, vocabulary));
    };
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let read = match ty {
        ValueType::String | ValueType::EmailAddress | ValueType::Uri | ValueType::DnsName => {
            Some(Value::from(text.clone()))
        }
        ValueType::Int64 => text.parse().ok().map(Value::Int),
        ValueType::Double => text.parse().ok().map(Value::Double),
        ValueType::Bool => text.parse().ok().map(Value::Bool),
        ValueType::Timestamp => Timestamp::parse(&text).map(Value::Timestamp),
        ValueType::Duration => parse_duration(&text).map(Value::Duration),
        ValueType::IpAddress => text.parse().ok().map(Value::Ip),
        ValueType::StringMap => None,
    };
    read.with_context(|| match ty {
        ValueType::StringMap => format!("attribute {name} is a map; write {name}[KEY]=VALUE"),
        ValueType::Timestamp => format!("attribute {name}: {text:?} is no time such as 2006-01-02T15:04:05Z"),
        ValueType::Duration => format!("attribute {name}: {text:?} is no length of time such as 1.5s"),
        ty => format!("attribute {name}: {text:?} is no {ty}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(expression: &str, lang: Lang, attributes: &[&str]) -> Result<Outcome> {
        evaluate(&Args {
            expression: expression.to_owned(),
            lang,
            attributes: attributes.iter().map(|one| (*one).to_owned()).collect(),
            declared: vec!["shop.tier=STRING".to_owned()],
            output: Output::Text,
        })
    }

    fn text(expression: &str, lang: Lang, attributes: &[&str]) -> String {
        as_text(expression, &eval(expression, lang, attributes).unwrap())
    }

    #[test]
    fn headers_are_found_in_any_case() {
        let check = |given: &str, asked: &str, expected: &str| {
            let seen = text(asked, Lang::Cexl, &[given]);
            assert_eq!(seen.lines().next(), Some(expected), "{given} {asked}");
        };
        let header = r#"request.headers["x-USER"] | "none""#;
        check("request.headers[X-User]=jason", header, "STRING jason");
        check("request.headers[x-user]=jason", header, "STRING jason");
        check("request.headers[x-other]=jason", header, "STRING none");
        check(
            "source.labels[App]=web",
            r#"source.labels["app"] | "none""#,
            "STRING none",
        );
    }

    #[test]
    fn values_have_their_type_and_what_was_looked_at() {
        let given = [
            "request.size=10",
            "request.headers[x-user]=jason",
            "shop.tier=gold",
        ];
        let check = |expression: &str, lang, expected: &str| {
            let seen = text(expression, lang, &given);
            assert_eq!(seen.lines().collect::<Vec<_>>().join("; "), expected);
        };
        let marks = "(- marks what is absent)";
        check(
            "request.size | 200",
            Lang::Cexl,
            &format!("INT64 10; looked at request.size {marks}"),
        );
        check(
            r#"source.uid | request.headers["x-user"]"#,
            Lang::Cexl,
            &format!("STRING jason; looked at request.headers, request.headers[x-user], -source.uid {marks}"),
        );
        check(
            "shop.tier + '!'",
            Lang::Cel,
            &format!("STRING gold!; looked at shop.tier {marks}"),
        );
        check("1 + 1", Lang::Cel, "INT64 2; looked at nothing");
        check(
            "source.uid",
            Lang::Cexl,
            &format!("STRING, but no value: attribute source.uid is absent; looked at -source.uid {marks}"),
        );
    }

    #[test]
    fn errors_point_to_the_column() {
        let seen = text("1 + source.lables", Lang::Cexl, &[]);
        assert!(seen.ends_with("  1 + source.lables\n      ^\n"), "{seen}");
        assert!(seen.contains("did you mean source.labels?"), "{seen}");
        let refused = eval("request.size == 'x'", Lang::Cel, &[]).unwrap();
        assert_eq!(as_json(&refused)["error"]["column"], 14);
    }

    #[test]
    fn attributes_are_read_by_their_types() {
        let wrong = |attribute: &str| eval("1", Lang::Cexl, &[attribute]).err().unwrap().to_string();
        assert!(wrong("request.size=many").contains("\"many\" is no INT64"));
        assert!(wrong("request.sise=1").contains("did you mean request.size?"));
        assert!(wrong("request.headers=x").contains("request.headers[KEY]=VALUE"));
        assert!(wrong("request.size[a]=1").contains("has no entries"));
        assert!(wrong("request.time=now").contains("2006-01-02"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("attributes.yaml");
        fs::write(
            &path,
            "request.size: 7\nresponse.duration: 2s\nsource.ip: 10.0.0.1\nrequest.headers:\n  a: b\n",
        )
        .unwrap();
        let file = path.to_str().unwrap();
        let seen = text(
            r#"request.headers["a"] == "b" && request.size < 8"#,
            Lang::Cexl,
            &[file],
        );
        assert!(seen.starts_with("BOOL true"), "{seen}");
    }
}
