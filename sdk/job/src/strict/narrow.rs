//! A deserializer around another one that takes fewer texts: what serde reads leniently is refused here.
//!
//! Refused are fractions, a key that stands twice, deep nesting, objects of very many fields, a struct written as an array, and
//! a plain word written as an object (`{"read":null}` for `"read"`). The last two are serde's own doing: another reader of the
//! same signed text would not see there what we see.

use std::collections::HashSet;
use std::fmt;

use serde::de::value::StringDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use crate::text::shown;

/// Deeper nesting than any format of ours needs.
const MAX_DEPTH: u8 = 16;
/// More fields than any object of ours has. Keys are kept to find duplicates, at many times their size in the text.
pub(super) const MAX_FIELDS: usize = 2048;

/// `inner`, narrowed; also a seed and a visitor that hand the narrowing on to everything inside.
pub(super) struct Narrow<T> {
    inner: T,
    depth: u8,
    /// Whether the keys are those of a struct, which finds duplicates by itself.
    fields: bool,
}

impl<T> Narrow<T> {
    /// Narrows a whole text.
    pub(super) const fn new(inner: T) -> Self {
        Self { inner, depth: 0, fields: false }
    }

    fn with<U>(&self, inner: U) -> Narrow<U> {
        Narrow { inner, depth: self.depth, fields: false }
    }

    fn deeper<E: Error>(&self) -> Result<u8, E> {
        if self.depth == MAX_DEPTH {
            return Err(E::custom(format_args!("nested deeper than {MAX_DEPTH}")));
        }
        Ok(self.depth + 1)
    }
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Narrow<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.with(visitor);
        self.inner.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.with(visitor);
        self.inner.deserialize_option(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        visitor.visit_newtype_struct(self)
    }

    /// A struct is an object: serde alone would also take an array of its fields.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Narrow { inner: visitor, depth: self.depth, fields: true };
        self.inner.deserialize_map(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = Union(self.with(visitor));
        self.inner.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map identifier ignored_any
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Narrow<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        let deserializer = self.with(deserializer);
        self.inner.deserialize(deserializer)
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Narrow<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<V::Value, E> {
        self.inner.visit_bool(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<V::Value, E> {
        self.inner.visit_i64(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<V::Value, E> {
        self.inner.visit_u64(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        Err(E::custom(format_args!("{value}: only integers of 64 bits are allowed")))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<V::Value, E> {
        self.inner.visit_str(value)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<V::Value, E> {
        self.inner.visit_borrowed_str(value)
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.with(value);
        self.inner.visit_some(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        let depth = self.deeper()?;
        self.inner.visit_seq(Items { inner: items, depth })
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        let depth = self.deeper()?;
        let seen = if self.fields { None } else { Some(HashSet::new()) };
        self.inner.visit_map(Fields { inner: fields, depth, seen })
    }
}

struct Items<A> {
    inner: A,
    depth: u8,
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Items<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        self.inner.next_element_seed(Narrow { inner: seed, depth: self.depth, fields: false })
    }
}

struct Fields<A> {
    inner: A,
    depth: u8,
    /// The keys so far, unless a struct minds them.
    seen: Option<HashSet<String>>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Fields<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let Some(seen) = &mut self.seen else { return self.inner.next_key_seed(seed) };
        let Some(key) = self.inner.next_key::<String>()? else { return Ok(None) };
        if seen.contains(&key) {
            return Err(A::Error::custom(format_args!("duplicate key \"{}\"", shown(&key, 80))));
        }
        if seen.len() == MAX_FIELDS {
            return Err(A::Error::custom(format_args!("an object of more than {MAX_FIELDS} fields")));
        }
        seen.insert(key.clone());
        let key: StringDeserializer<A::Error> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.inner.next_value_seed(Narrow { inner: seed, depth: self.depth, fields: false })
    }
}

/// One of several things: a word, or an object of one key for what carries something.
struct Union<V>(Narrow<V>);

impl<'de, V: Visitor<'de>> Visitor<'de> for Union<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<V::Value, E> {
        self.0.inner.visit_enum(word.into_deserializer())
    }

    fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<V::Value, A::Error> {
        let depth = self.0.deeper()?;
        self.0.inner.visit_enum(OneField { inner: fields, depth })
    }
}

struct OneField<A> {
    inner: A,
    depth: u8,
}

impl<'de, A: MapAccess<'de>> OneField<A> {
    fn value<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<S::Value, A::Error> {
        let value = self.inner.next_value_seed(seed)?;
        match self.inner.next_key::<IgnoredAny>()? {
            None => Ok(value),
            Some(_) => Err(A::Error::custom("an object of one key is expected here")),
        }
    }
}

impl<'de, A: MapAccess<'de>> EnumAccess<'de> for OneField<A> {
    type Error = A::Error;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(mut self, seed: S) -> Result<(S::Value, Self), A::Error> {
        match self.inner.next_key_seed(seed)? {
            Some(variant) => Ok((variant, self)),
            None => Err(A::Error::custom("an object of one key is expected here")),
        }
    }
}

impl<'de, A: MapAccess<'de>> VariantAccess<'de> for OneField<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        Err(A::Error::custom("a word is expected here, not an object"))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = Narrow { inner: seed, depth: self.depth, fields: false };
        self.value(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, A::Error> {
        Err(A::Error::custom("no format of ours has a list of unnamed fields"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let seed = StructOf(Narrow { inner: visitor, depth: self.depth, fields: true });
        self.value(seed)
    }
}

/// Reads an object into a visitor of named fields.
struct StructOf<V>(Narrow<V>);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for StructOf<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        deserializer.deserialize_map(self.0)
    }
}
