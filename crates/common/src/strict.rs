//! JSON objects stay objects.
//!
//! serde's derived readers take an array for a struct, its fields in their order: `["ada", "admin"]`
//! would be an account, and `[]` whatever has defaults. No schema says so, and who reads such a body
//! beside us reads something else. [`Strict`] refuses it at any depth, and changes nothing else.

use std::fmt;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

/// A value whose structs were objects; also the wrapper around each part of serde's on the way there.
#[derive(Debug)]
pub struct Strict<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Strict<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        T::deserialize(Strict(input)).map(Strict)
    }
}

macro_rules! forward {
    ($($method:ident($($name:ident: $type:ty),*);)*) => {
        $(fn $method<V: Visitor<'de>>(self, $($name: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($name,)* Strict(visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Strict(visitor))
    }

    forward! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident($type:ty);)*) => {
        $(fn $method<E: serde::de::Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    visit! {
        visit_bool(bool);
        visit_i64(i64);
        visit_i128(i128);
        visit_u64(u64);
        visit_u128(u128);
        visit_f64(f64);
        visit_char(char);
        visit_str(&str);
        visit_borrowed_str(&'de str);
        visit_string(String);
        visit_bytes(&[u8]);
        visit_borrowed_bytes(&'de [u8]);
        visit_byte_buf(Vec<u8>);
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, input: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Strict(input))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, input: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Strict(input))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Strict(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Strict(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, variant: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Strict(variant))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(input))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Strict<A> {
    type Error = A::Error;
    type Variant = Strict<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(
        self,
        seed: S,
    ) -> Result<(S::Value, Self::Variant), A::Error> {
        self.0.variant_seed(seed).map(|(name, content)| (name, Strict(content)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(Strict(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Strict(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Strict(visitor))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::domain::DomainCreate;
    use crate::api::seed::SeedSpec;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(default)]
        text: String,
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Kind {
        Bare,
        Of(Inner),
        With { inner: Inner },
    }

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Outer {
        inner: Inner,
        maybe: Option<Inner>,
        #[serde(default)]
        list: Vec<Inner>,
        #[serde(default)]
        map: BTreeMap<String, Inner>,
        kind: Option<Kind>,
        pair: Option<(u8, Inner)>,
    }

    fn read(json: &str) -> Result<Outer, serde_json::Error> {
        serde_json::from_str::<Strict<Outer>>(json).map(|read| read.0)
    }

    #[test]
    fn an_array_is_no_object_at_any_depth() {
        for lenient in [
            r#"[{}, null, [], {}, null, null]"#,
            r#"{"inner": []}"#,
            r#"{"inner": ["a"]}"#,
            r#"{"inner": {}, "maybe": ["a"]}"#,
            r#"{"inner": {}, "list": [{}, []]}"#,
            r#"{"inner": {}, "map": {"a": []}}"#,
            r#"{"inner": {}, "kind": {"of": []}}"#,
            r#"{"inner": {}, "kind": {"with": {"inner": []}}}"#,
            r#"{"inner": {}, "pair": [1, []]}"#,
        ] {
            assert!(serde_json::from_str::<Outer>(lenient).is_ok(), "serde takes {lenient}");
            let refusal = read(lenient).unwrap_err();
            assert!(refusal.is_data() && refusal.to_string().contains("sequence"), "{refusal}");
        }
    }

    #[test]
    fn everything_else_is_read_as_ever() {
        for json in [
            r#"{"inner": {"text": "a"}, "maybe": {}, "list": [{"text": "b"}], "map": {"c": {}}}"#,
            r#"{"inner": {}, "kind": "bare", "pair": [1, {"text": "d"}]}"#,
            r#"{"inner": {}, "kind": {"of": {"text": "e"}}}"#,
            r#"{"inner": {}, "kind": {"with": {"inner": {"text": "f"}}}}"#,
        ] {
            assert_eq!(read(json).unwrap(), serde_json::from_str(json).unwrap(), "{json}");
        }
        for json in [
            r#"{"inner": {"other": 1}}"#,
            r#"{"inner": {"text": "a", "text": "b"}}"#,
            r#"{"inner": {"text": 1}}"#,
            r#"{}"#,
            r#"{"inner": {}"#,
        ] {
            let (strict, plain) =
                (read(json).unwrap_err(), serde_json::from_str::<Outer>(json).unwrap_err());
            assert_eq!(strict.to_string(), plain.to_string());
        }
        let guest = r#"{"id": "6f5d8bf6-d580-4946-9541-13fa98b4acf4", "name": "web1",
            "arch": "x86_64", "vcpus": 1, "vcpus_max": 2, "memory_mib": 64, "memory_mib_max": 64,
            "seed": {"runcmd": [["a", "b"]]}}"#;
        let read = serde_json::from_str::<Strict<DomainCreate>>(guest).unwrap().0;
        assert_eq!(read, serde_json::from_str(guest).unwrap());
        assert!(serde_json::from_str::<SeedSpec>("[]").is_ok());
        assert!(serde_json::from_str::<Strict<SeedSpec>>("[]").is_err());
    }
}
