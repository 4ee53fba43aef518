//! How config.json is read where serde's own habits differ from the spec's.
//!
//! Engines write config.json with Go, where `null` means "not given" for every type, and an object
//! is never written as an array. serde takes the first for optional fields only, and would read
//! `"user": [0, 0]` as a user. The functions here are the `deserialize_with` of the types.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// Tells serde to leave a field out when it holds nothing.
pub(super) fn unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A value that may be `null`, which means its default.
pub(super) fn nullable<'de, D, T>(de: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::<T>::deserialize(de)?.unwrap_or_default())
}

/// A text where empty means the same as absent, as it does in Go.
pub(super) fn text<'de, D: Deserializer<'de>>(de: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(de)?.filter(|text| !text.is_empty()))
}

/// An object that always has a value, if need be its default.
pub(super) fn object<'de, D, T>(de: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(optional(de)?.unwrap_or_default())
}

/// An object that may be absent.
pub(super) fn optional<'de, D, T>(de: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Object<T>>::deserialize(de)?.map(|object| object.0))
}

/// A large object that may be absent. A struct is moved several times on its way out of serde, by
/// frames that all have room for it: what is large lies elsewhere.
pub(super) fn boxed<'de, D, T>(de: D) -> Result<Option<Box<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(optional(de)?.map(Box::new))
}

/// A list of objects.
pub(super) fn objects<'de, D, T>(de: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let list = Option::<Vec<Object<T>>>::deserialize(de)?.unwrap_or_default();
    Ok(list.into_iter().map(|object| object.0).collect())
}

/// Objects by name.
pub(super) fn named<'de, D, T>(de: D) -> Result<BTreeMap<String, T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let table = Option::<BTreeMap<String, Object<T>>>::deserialize(de)?.unwrap_or_default();
    Ok(table
        .into_iter()
        .map(|(name, object)| (name, object.0))
        .collect())
}

/// A struct that can be read from a JSON object only.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(de: D) -> Result<Self, D::Error> {
        de.deserialize_map(ObjectVisitor(PhantomData)).map(Object)
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}
