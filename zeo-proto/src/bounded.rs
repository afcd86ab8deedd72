//! How the fields of messages that have a bound are read and written: for `#[serde(with = "…")]`.
//!
//! A bound is checked here, where a length is read, because afterwards the memory is spent. A
//! length within its bound is still not believed: a list grows with the elements that are there,
//! and bytes and texts are borrowed from the frame before they are copied.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use serde::de::{self, Deserialize, Deserializer, SeqAccess, Visitor};
use serde::ser::{self, Serialize, Serializer};

use crate::MAX_REASON;

/// A list of at most `MAX` elements.
pub(crate) struct List<const MAX: usize>;

impl<const MAX: usize> List<MAX> {
    pub(crate) fn serialize<T, S>(list: &[T], serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Serialize,
        S: Serializer,
    {
        within(list.len(), MAX).map_err(ser::Error::custom)?;
        list.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        BoundedVec::<T, MAX>::deserialize(deserializer).map(|list| list.0)
    }
}

/// A list of at most `MAX` elements, or none.
pub(crate) struct OptionalList<const MAX: usize>;

impl<const MAX: usize> OptionalList<MAX> {
    #[expect(clippy::ref_option, reason = "serde passes a reference to the field")]
    pub(crate) fn serialize<T, S>(list: &Option<Vec<T>>, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Serialize,
        S: Serializer,
    {
        within(list.as_ref().map_or(0, Vec::len), MAX).map_err(ser::Error::custom)?;
        list.serialize(serializer)
    }

    pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
    where
        T: Deserialize<'de>,
        D: Deserializer<'de>,
    {
        let list = Option::<BoundedVec<T, MAX>>::deserialize(deserializer)?;
        Ok(list.map(|list| list.0))
    }
}

struct BoundedVec<T, const MAX: usize>(Vec<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for BoundedVec<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

struct ListVisitor<T, const MAX: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
    type Value = BoundedVec<T, MAX>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {MAX} elements")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let length = elements.size_hint().unwrap_or(0);
        within(length, MAX).map_err(de::Error::custom)?;
        let mut list = Vec::with_capacity(length.min(BELIEVED));
        while let Some(element) = elements.next_element()? {
            list.push(element);
        }
        Ok(BoundedVec(list))
    }
}

/// Bytes, at most `MAX`.
pub(crate) struct Binary<const MAX: usize>;

impl<const MAX: usize> Binary<MAX> {
    pub(crate) fn serialize<S: Serializer>(data: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        within(data.len(), MAX).map_err(ser::Error::custom)?;
        serializer.serialize_bytes(data)
    }

    pub(crate) fn deserialize<'de, D>(deserializer: D) -> Result<Vec<u8>, D::Error>
    where
        D: Deserializer<'de>,
    {
        let data = <&[u8]>::deserialize(deserializer)?;
        within(data.len(), MAX).map_err(de::Error::custom)?;
        Ok(data.to_vec())
    }
}

/// A text of at most `MAX` bytes.
pub(crate) struct Text<const MAX: usize>;

impl<const MAX: usize> Text<MAX> {
    pub(crate) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        within(text.len(), MAX).map_err(ser::Error::custom)?;
        serializer.serialize_str(text)
    }

    pub(crate) fn deserialize<'de, D>(deserializer: D) -> Result<String, D::Error>
    where
        D: Deserializer<'de>,
    {
        let text = <&str>::deserialize(deserializer)?;
        within(text.len(), MAX).map_err(de::Error::custom)?;
        Ok(text.to_owned())
    }
}

/// A text for people, of at most [`MAX_REASON`] bytes; a longer one is cut when it is sent.
pub(crate) struct Reason;

impl Reason {
    pub(crate) fn serialize<S: Serializer>(text: &str, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(cut(text, MAX_REASON))
    }

    pub(crate) fn deserialize<'de, D>(deserializer: D) -> Result<String, D::Error>
    where
        D: Deserializer<'de>,
    {
        Text::<MAX_REASON>::deserialize(deserializer)
    }
}

/// The longest beginning of a text that has at most `max` bytes.
pub(crate) fn cut(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// Refuses a length beyond its bound.
fn within(length: usize, max: usize) -> Result<(), String> {
    if length <= max {
        Ok(())
    } else {
        Err(format!("a length of {length}, where at most {max} is allowed"))
    }
}

/// How many elements a list is given room for on the word of its length alone.
const BELIEVED: usize = 64;
