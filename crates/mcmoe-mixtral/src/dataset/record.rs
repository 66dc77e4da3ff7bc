//! What is kept of a JSON value: the texts that can be a document. All else is skipped, not stored.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::format::TextFields;

/// A JSON value, as far as it can be a document.
pub(super) enum Record {
    /// A string.
    Text(String),
    /// The strings of an object under names that were asked for. Of one name the last value counts.
    Object(BTreeMap<&'static str, String>),
    /// Anything else.
    Other,
}

/// Reads a [`Record`]; of an object, the fields that these ways to spell a document name.
pub(super) struct RecordOf(pub(super) TextFields);

impl<'de> DeserializeSeed<'de> for RecordOf {
    type Value = Record;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Record, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for RecordOf {
    type Value = Record;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Record, E> {
        Ok(Record::Text(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Record, A::Error> {
        let mut texts: BTreeMap<&'static str, String> = BTreeMap::new();
        while let Some(name) = map.next_key_seed(NameAmong(self.0))? {
            let Some(name) = name else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            texts.remove(name);
            if let Record::Text(text) = map.next_value_seed(RecordOf(&[]))? {
                texts.insert(name, text);
            }
        }
        Ok(Record::Object(texts))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Record, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Record::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Record, E> {
        Ok(Record::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Record, E> {
        Ok(Record::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Record, E> {
        Ok(Record::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Record, E> {
        Ok(Record::Other)
    }

    fn visit_unit<E>(self) -> Result<Record, E> {
        Ok(Record::Other)
    }
}

/// Reads a name: which of those asked for it is, if any.
struct NameAmong(TextFields);

impl<'de> DeserializeSeed<'de> for NameAmong {
    type Value = Option<&'static str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<&'static str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameAmong {
    type Value = Option<&'static str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<&'static str>, E> {
        Ok(self.0.iter().copied().flatten().copied().find(|known| *known == name))
    }
}
