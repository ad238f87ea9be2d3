//! Upper bounds of limits, each of which may be left out.

use serde::{Deserialize, Serialize};

use crate::Limits;

/// The lower of two bounds; of one that is left out, the other.
fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

macro_rules! ceilings {
    (plain { $($plain:ident: $ty:ty,)* } optional { $($optional:ident,)* }) => {
        /// Highest limits that jobs may ask for, by the names and in the units of [`Limits`]; what is left out is bounded by others alone.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Ceilings {
            $(
                #[doc = concat!("Of `", stringify!($plain), "`.")]
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $plain: Option<$ty>,
            )*
            $(
                #[doc = concat!("Of `", stringify!($optional), "`; with it, a job without that limit asks for too much.")]
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $optional: Option<u64>,
            )*
        }

        impl Ceilings {
            /// Whether it bounds nothing.
            #[must_use]
            pub fn is_empty(&self) -> bool {
                *self == Self::default()
            }

            /// The lower of both, of each limit.
            #[must_use]
            pub fn meet(&self, other: &Self) -> Self {
                Self {
                    $($plain: least(self.$plain, other.$plain),)*
                    $($optional: least(self.$optional, other.$optional),)*
                }
            }

            /// The highest limits where `max` are those of everybody.
            #[must_use]
            pub fn within(&self, max: &Limits) -> Limits {
                Limits {
                    $($plain: self.$plain.map_or(max.$plain, |own| own.min(max.$plain)),)*
                    $($optional: least(self.$optional, max.$optional),)*
                }
            }

            /// Names of limits for which this bound is above the one of `other`.
            #[must_use]
            pub fn above(&self, other: &Self) -> Vec<&'static str> {
                let mut above = Vec::new();
                $(
                    if self.$plain.zip(other.$plain).is_some_and(|(own, other)| own > other) {
                        above.push(stringify!($plain));
                    }
                )*
                $(
                    if self.$optional.zip(other.$optional).is_some_and(|(own, other)| own > other) {
                        above.push(stringify!($optional));
                    }
                )*
                above
            }
        }
    };
}

ceilings! {
    plain {
        memory_bytes: u64,
        wall_ms: u64,
        stdout_bytes: u64,
        stderr_bytes: u64,
        disk_bytes: u64,
        file_bytes: u64,
        files: u32,
        handles: u32,
        sockets: u32,
        http_bytes: u64,
        instances: u32,
        host_buffer_bytes: u64,
    }
    optional {
        cpu_ms,
        fuel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_never_raised() {
        let (max, none) = (Limits::default(), Ceilings::default());
        assert_eq!(none.within(&max), max);
        let own = Ceilings { memory_bytes: Some(1 << 40), files: Some(7), fuel: Some(5), ..none.clone() };
        let within = own.within(&max);
        assert_eq!(within, Limits { files: 7, fuel: Some(5), ..max });
        let other = Ceilings { memory_bytes: Some(1), fuel: Some(9), ..none.clone() };
        let met = Ceilings { memory_bytes: Some(1), files: Some(7), fuel: Some(5), ..none.clone() };
        assert_eq!((own.meet(&other), other.meet(&own)), (met.clone(), met));
        assert_eq!((own.above(&other), other.above(&own)), (vec!["memory_bytes"], vec!["fuel"]));
        assert!(none.above(&own).is_empty() && own.above(&none).is_empty(), "what is left out is taken over");
    }
}
