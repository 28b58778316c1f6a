//! How a value is written in a parameter: the styles of `OpenAPI` 3.1 (section 4.8.12.3, Style Values), which are
//! those of RFC 6570 and three of its own. Pure. Must never write a value so that the server reads two of it.

use proto::registry::v1::{HttpLocation as Location, HttpParameter, HttpStyle as Style};
use serde_json::Value;

use super::{faulty, plain, wrong};
use crate::outcome::ToolError;

/// A parameter of a request, whose style is one of its location.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parameter<'a> {
    pub argument: &'a str,
    pub name: &'a str,
    pub location: Location,
    style: Style,
    explode: bool,
    json: bool,
}

/// What a value consists of. What is null stands nowhere.
enum Texts {
    None,
    One(String),
    Many(Vec<String>),
    Named(Vec<(String, String)>),
}

impl<'a> Parameter<'a> {
    pub(super) fn of(given: &'a HttpParameter) -> Result<Self, ToolError> {
        let name = if given.name.is_empty() { &given.argument } else { &given.name };
        let style = match (given.location(), given.style()) {
            (Location::Query | Location::Cookie, Style::Unspecified | Style::Form) => Style::Form,
            (Location::Path | Location::Header, Style::Unspecified | Style::Simple) => Style::Simple,
            (Location::Path, style @ (Style::Label | Style::Matrix))
            | (Location::Query, style @ (Style::SpaceDelimited | Style::PipeDelimited | Style::DeepObject)) => {
                style
            }
            (_, style) => {
                let (style, location) = (style.as_str_name(), given.location().as_str_name());
                return Err(faulty(&format!("parameter {name}: there is no {style} in {location}")));
            }
        };
        let HttpParameter { argument, explode, json, .. } = given;
        Ok(Self { argument, name, location: given.location(), style, explode: *explode, json: *json })
    }

    /// A parameter that is no more than the place of an argument in the path.
    pub(super) fn placeholder(argument: &'a str) -> Self {
        let location = Location::Path;
        Self { argument, name: argument, location, style: Style::Simple, explode: false, json: false }
    }

    /// The pairs of name and encoded value that the value is in a query, or among the cookies.
    pub(super) fn pairs(&self, value: &Value) -> Result<Vec<(String, String)>, ToolError> {
        if self.style == Style::DeepObject && !self.json {
            let mut pairs = Vec::new();
            self.nest(self.name.to_owned(), value, &mut pairs)?;
            return Ok(pairs);
        }
        let own = |value: String| (self.name.to_owned(), value);
        Ok(match self.texts(value) {
            Texts::None => vec![],
            Texts::One(text) => vec![own(encode(&text))],
            Texts::Many(items) if self.explode => items.iter().map(|item| own(encode(item))).collect(),
            Texts::Many(items) => vec![own(self.joined(items.iter())?)],
            Texts::Named(members) if self.explode => {
                members.into_iter().map(|(name, value)| (name, encode(&value))).collect()
            }
            Texts::Named(members) => {
                vec![own(self.joined(members.iter().flat_map(|(name, value)| [name, value]))?)]
            }
        })
    }

    /// Members by their names in brackets. The styles say nothing of arrays there: theirs are numbered, which most
    /// servers read.
    fn nest(&self, name: String, value: &Value, pairs: &mut Vec<(String, String)>) -> Result<(), ToolError> {
        match value {
            Value::Null => {}
            Value::Object(members) => {
                for (member, value) in members {
                    if member.contains(['[', ']']) {
                        return Err(wrong(self.argument, "has a member with a bracket in its name"));
                    }
                    self.nest(format!("{name}[{member}]"), value, pairs)?;
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().filter(|item| !item.is_null()).enumerate() {
                    self.nest(format!("{name}[{index}]"), item, pairs)?;
                }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => pairs.push((name, encode(&plain(value)))),
        }
        Ok(())
    }

    /// What stands in the path, encoded.
    pub(super) fn in_path(&self, value: &Value) -> Result<String, ToolError> {
        let texts = self.texts(value);
        let texts = match texts {
            Texts::None => {
                return Err(wrong(self.argument, "is needed for the address, and may not be empty"));
            }
            Texts::One(text) if self.style == Style::Simple && matches!(text.as_str(), "" | "." | "..") => {
                return Err(wrong(self.argument, "may not be empty, '.' or '..'"));
            }
            texts => texts,
        };
        let (first, between) = match (self.style, self.explode) {
            (Style::Label, true) => (".", "."),
            (Style::Label, false) => (".", ","),
            (Style::Matrix, true) => (";", ";"),
            (Style::Matrix, false) => (";", ","),
            (_, _) => ("", ","),
        };
        let name = encode(self.name);
        let named = |value: &str| if value.is_empty() { name.clone() } else { format!("{name}={value}") };
        let is_matrix = self.style == Style::Matrix;
        let parts: Vec<String> = match &texts {
            Texts::None => vec![],
            Texts::One(text) => vec![encode(text)],
            Texts::Many(items) => items.iter().map(|item| encode(item)).collect(),
            Texts::Named(members) if self.explode => {
                members.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect()
            }
            Texts::Named(members) => {
                members.iter().flat_map(|(name, value)| [encode(name), encode(value)]).collect()
            }
        };
        let has_own_names = self.explode && matches!(texts, Texts::Named(_));
        let text = match (is_matrix && !has_own_names, self.explode) {
            (true, true) => parts.iter().map(|part| named(part)).collect::<Vec<_>>().join(between),
            (true, false) => named(&parts.join(between)),
            (false, _) => parts.join(between),
        };
        Ok(format!("{first}{text}"))
    }

    /// What stands in a header, where nothing is encoded; `None`: no header.
    pub(super) fn in_header(&self, value: &Value) -> Result<Option<String>, ToolError> {
        Ok(match self.texts(value) {
            Texts::None => None,
            Texts::One(text) => Some(text),
            Texts::Many(items) => Some(self.listed(items)?),
            Texts::Named(members) if self.explode => {
                if members.iter().any(|(name, _)| name.contains('=')) {
                    return Err(wrong(self.argument, "has a member with = in its name"));
                }
                Some(self.listed(members.into_iter().map(|(name, value)| format!("{name}={value}")))?)
            }
            Texts::Named(members) => {
                Some(self.listed(members.into_iter().flat_map(|(name, value)| [name, value]))?)
            }
        })
    }

    fn listed(&self, items: impl IntoIterator<Item = String>) -> Result<String, ToolError> {
        let items: Vec<String> = items.into_iter().collect();
        self.holds_none(',', items.iter())?;
        Ok(items.join(","))
    }

    fn joined<'t>(&self, items: impl Iterator<Item = &'t String> + Clone) -> Result<String, ToolError> {
        let between = match self.style {
            Style::SpaceDelimited => {
                self.holds_none(' ', items.clone())?;
                "%20"
            }
            Style::PipeDelimited => {
                self.holds_none('|', items.clone())?;
                "%7C"
            }
            _ => ",",
        };
        Ok(items.map(|item| encode(item)).collect::<Vec<_>>().join(between))
    }

    /// Servers part the values after they have decoded them.
    fn holds_none<'t>(
        &self,
        separator: char,
        mut items: impl Iterator<Item = &'t String>,
    ) -> Result<(), ToolError> {
        if items.any(|item| item.contains(separator)) {
            return Err(wrong(
                self.argument,
                &format!("has a value with {separator:?}, which parts its values"),
            ));
        }
        Ok(())
    }

    fn texts(&self, value: &Value) -> Texts {
        match value {
            Value::Null => Texts::None,
            _ if self.json => Texts::One(value.to_string()),
            Value::Array(items) => {
                let items: Vec<String> = items.iter().filter(|item| !item.is_null()).map(plain).collect();
                if items.is_empty() { Texts::None } else { Texts::Many(items) }
            }
            Value::Object(members) => {
                let members = members.iter().filter(|(_, value)| !value.is_null());
                let members: Vec<_> = members.map(|(name, value)| (name.clone(), plain(value))).collect();
                if members.is_empty() { Texts::None } else { Texts::Named(members) }
            }
            Value::Bool(_) | Value::Number(_) | Value::String(_) => Texts::One(plain(value)),
        }
    }
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
pub(super) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push_str(&hex::encode_upper([byte]));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A parameter "color" of this place, as it stands there: a path's text, a header's, or a query's.
    fn written(location: Location, style: Style, explode: bool, value: &Value) -> Result<String, ToolError> {
        let given = HttpParameter {
            argument: "color".into(),
            location: location.into(),
            style: style.into(),
            explode,
            ..HttpParameter::default()
        };
        let parameter = Parameter::of(&given)?;
        match location {
            Location::Path => parameter.in_path(value),
            Location::Header => Ok(parameter.in_header(value)?.unwrap_or_default()),
            _ => {
                let pairs = parameter.pairs(value)?;
                let pairs = pairs.iter().map(|(name, value)| format!("{}={value}", encode(name)));
                Ok(pairs.collect::<Vec<_>>().join("&"))
            }
        }
    }

    #[test]
    fn every_style_is_written_as_the_specification_shows() {
        use Location::{Cookie, Header, Path, Query};
        use Style::{DeepObject, Form, Label, Matrix, PipeDelimited, Simple, SpaceDelimited};
        let (list, object) = (json!(["red", "teal", "tan"]), json!({"H": 10, "L": 30, "S": 20}));
        // What style, exploded or not; and how "", "red", the list and the object look. "-": nothing; "!": refused.
        for (location, style, explode, [empty, text, many, named]) in [
            (Path, Matrix, false, [";color", ";color=red", ";color=red,teal,tan", ";color=H,10,L,30,S,20"]),
            (
                Path,
                Matrix,
                true,
                [";color", ";color=red", ";color=red;color=teal;color=tan", ";H=10;L=30;S=20"],
            ),
            (Path, Label, false, [".", ".red", ".red,teal,tan", ".H,10,L,30,S,20"]),
            (Path, Label, true, [".", ".red", ".red.teal.tan", ".H=10.L=30.S=20"]),
            (Path, Simple, false, ["!", "red", "red,teal,tan", "H,10,L,30,S,20"]),
            (Path, Simple, true, ["!", "red", "red,teal,tan", "H=10,L=30,S=20"]),
            (Header, Simple, false, ["", "red", "red,teal,tan", "H,10,L,30,S,20"]),
            (Header, Simple, true, ["", "red", "red,teal,tan", "H=10,L=30,S=20"]),
            (Query, Form, false, ["color=", "color=red", "color=red,teal,tan", "color=H,10,L,30,S,20"]),
            (Query, Form, true, ["color=", "color=red", "color=red&color=teal&color=tan", "H=10&L=30&S=20"]),
            (
                Query,
                SpaceDelimited,
                false,
                ["color=", "color=red", "color=red%20teal%20tan", "color=H%2010%20L%2030%20S%2020"],
            ),
            (
                Query,
                PipeDelimited,
                false,
                ["color=", "color=red", "color=red%7Cteal%7Ctan", "color=H%7C10%7CL%7C30%7CS%7C20"],
            ),
            (
                Query,
                PipeDelimited,
                true,
                ["color=", "color=red", "color=red&color=teal&color=tan", "H=10&L=30&S=20"],
            ),
            (
                Query,
                DeepObject,
                true,
                [
                    "color=",
                    "color=red",
                    "color%5B0%5D=red&color%5B1%5D=teal&color%5B2%5D=tan",
                    "color%5BH%5D=10&color%5BL%5D=30&color%5BS%5D=20",
                ],
            ),
            (Cookie, Form, false, ["color=", "color=red", "color=red,teal,tan", "color=H,10,L,30,S,20"]),
        ] {
            let expected = [empty, text, many, named];
            for (value, expected) in
                [json!(""), json!("red"), list.clone(), object.clone()].iter().zip(expected)
            {
                let found = written(location, style, explode, value).unwrap_or_else(|_| "!".into());
                assert_eq!(found, expected, "{location:?} {style:?} {explode} {value}");
            }
        }
    }

    #[test]
    fn what_is_not_said_is_left_out_and_what_is_nested_is_json() {
        for nothing in [json!(null), json!([]), json!({}), json!([null]), json!({"a": null})] {
            for style in [Style::Form, Style::SpaceDelimited, Style::DeepObject] {
                assert_eq!(
                    written(Location::Query, style, true, &nothing).unwrap(),
                    "",
                    "{style:?} {nothing}"
                );
            }
            assert_eq!(written(Location::Header, Style::Simple, true, &nothing).unwrap(), "");
            assert!(written(Location::Path, Style::Label, true, &nothing).is_err(), "{nothing}");
        }
        let nested = json!({"a": {"b": [1, {"c": true}]}, "d": null});
        let deep = written(Location::Query, Style::DeepObject, true, &nested).unwrap();
        assert_eq!(deep, "color%5Ba%5D%5Bb%5D%5B0%5D=1&color%5Ba%5D%5Bb%5D%5B1%5D%5Bc%5D=true");
        let form = written(Location::Query, Style::Form, true, &json!([1, [2, "x"]])).unwrap();
        assert_eq!(form, "color=1&color=%5B2%2C%22x%22%5D");
        let big =
            written(Location::Query, Style::Form, true, &json!([9_007_199_254_740_993_u64, 1.5, false]));
        assert_eq!(big.unwrap(), "color=9007199254740993&color=1.5&color=false");
    }

    #[test]
    fn a_value_never_becomes_two() {
        let sly = json!(["a,b", "c&d=e;f g|h/é"]);
        let form = written(Location::Query, Style::Form, false, &sly).unwrap();
        assert_eq!(form, "color=a%2Cb,c%26d%3De%3Bf%20g%7Ch%2F%C3%A9");
        let path = written(Location::Path, Style::Matrix, true, &sly).unwrap();
        assert_eq!(path, ";color=a%2Cb;color=c%26d%3De%3Bf%20g%7Ch%2F%C3%A9");
        for (location, style, value) in [
            (Location::Header, Style::Simple, sly.clone()),
            (Location::Header, Style::Simple, json!({"a=b": "c"})),
            (Location::Query, Style::SpaceDelimited, json!(["a b"])),
            (Location::Query, Style::PipeDelimited, json!({"a|b": 1})),
            (Location::Query, Style::DeepObject, json!({"a][b": 1})),
        ] {
            let explode = location == Location::Header;
            let error = written(location, style, explode, &value).unwrap_err();
            assert!(error.message.starts_with("argument color has a"), "{error:?}");
        }
    }

    #[test]
    fn json_is_one_text_in_every_place() {
        let given = |location: Location| HttpParameter {
            argument: "a".into(),
            location: location.into(),
            explode: true,
            json: true,
            ..HttpParameter::default()
        };
        let value = json!({"b": ["x,y", 1]});
        let (query, path, header) = (given(Location::Query), given(Location::Path), given(Location::Header));
        let encoded = "%7B%22b%22%3A%5B%22x%2Cy%22%2C1%5D%7D";
        let pairs = Parameter::of(&query).unwrap().pairs(&value).unwrap();
        assert_eq!(pairs, [("a".to_owned(), encoded.to_owned())]);
        assert_eq!(Parameter::of(&path).unwrap().in_path(&value).unwrap(), encoded);
        let header = Parameter::of(&header).unwrap().in_header(&value).unwrap();
        assert_eq!(header.unwrap(), r#"{"b":["x,y",1]}"#);
    }

    #[test]
    fn a_style_stands_only_where_it_has_a_meaning() {
        for (location, style) in [
            (Location::Query, Style::Simple),
            (Location::Query, Style::Matrix),
            (Location::Header, Style::Form),
            (Location::Cookie, Style::DeepObject),
            (Location::Path, Style::Form),
            (Location::Unspecified, Style::Form),
        ] {
            let error = written(location, style, false, &json!("x")).unwrap_err();
            assert!(error.message.contains(style.as_str_name()), "{error:?}");
        }
    }
}
