//! The macro that declares options: the one place where an option is written.

/// Declares a struct whose fields are options. From it come the struct, its defaults, the table of options for
/// documents and checks, the reader and the ranges.
///
/// Each field is `name: type = default`, then any of these in this order:
///
/// | behind the default | means |
/// |---|---|
/// | `name "other"` | scripts call the option so, where the field has another name |
/// | `alias ["max_steps"]` | further names, those of Python's tools |
/// | `range at_least(1.0)` | the numbers that it takes, those in arrays and maps included; see [`range`](crate::options::range) |
/// | `hint "5 % is 0.05"` | the fix for a number outside of the range, or for a required option that is absent |
/// | `words "the model's own"` | the default in words, where its value does not say it |
///
/// Directly behind the default, `is required` says that the default is never used; `is set` marks a field
/// whose type has options of its own, which are read beside these; or `is internal`, for a field that is no option. The
/// comment of a field is the documentation of the option. Behind the struct,
/// `resolve path;` names a function that derives values after reading, `when path;` one that says whether the values
/// have an effect and so are checked, and `rule path;` one that finds values that do not go together.
///
/// ```
/// use lorhai::options::{OptionSet, Refusal};
///
/// lorhai::options! {
///     /// How a cake is baked.
///     #[derive(Debug, Clone, PartialEq)]
///     pub struct Baking {
///         /// Minutes in the oven.
///         pub minutes: usize = 40, alias ["time"], range at_least(1.0);
///         /// What it is called.
///         pub title: String = "cake".to_owned();
///     }
///     rule Baking::rule;
/// }
///
/// impl Baking {
///     fn rule(&self) -> Option<Refusal> {
///         let is_raw = self.title == "bread" && self.minutes < 30;
///         is_raw.then(|| Refusal::new("minutes", "30 for bread", self.minutes.to_string()))
///     }
/// }
///
/// assert_eq!(Baking::default().minutes, 40);
/// assert_eq!(Baking::table().find("time").unwrap().name, "minutes");
/// let error = Baking { minutes: 0, ..Baking::default() }.ensure_valid("bake").unwrap_err();
/// assert_eq!(error.message, "bake: option `minutes`: expected int of at least 1, found 0");
/// ```
#[macro_export]
macro_rules! options {
    (
        $(#[$meta:meta])*
        $vis:vis struct $struct:ident {
            $(
                $(#[doc = $about:literal])*
                $(#[serde($($serde:tt)*)])?
                $field_vis:vis $field:ident : $type:ty = $default:expr
                    $(, is $kind:ident)?
                    $(, name $name:literal)?
                    $(, alias [$($alias:literal),* $(,)?])?
                    $(, range $range:expr)?
                    $(, hint $hint:literal)?
                    $(, words $words:literal)?
                ;
            )*
        }
        $(resolve $resolve:path;)?
        $(when $when:path;)?
        $(rule $rule:path;)?
    ) => {
        $(#[$meta])*
        $vis struct $struct {
            $(
                $(#[doc = $about])*
                $(#[serde($($serde)*)])?
                $field_vis $field: $type,
            )*
        }

        impl Default for $struct {
            fn default() -> Self {
                $struct { $($field: $default,)* }
            }
        }

        impl $crate::options::OptionSet for $struct {
            fn table() -> &'static $crate::options::Table {
                static TABLE: $crate::options::Table = $crate::options::Table {
                    entries: &[$(
                        $crate::options!(@entry [$($kind)?] [$type] [$default] [$field] [$($name)?]
                            [$($($alias),*)?] [$($range)?] [$($hint)?] [$($words)?] [$($about)*])
                    ),*],
                };
                &TABLE
            }

            #[allow(unused_variables, unused_mut)]
            fn update(
                &mut self,
                source: &mut dyn $crate::options::Source,
            ) -> $crate::error::Result<Vec<&'static str>> {
                let mut names = Vec::new();
                $($crate::options!(@update [$($kind)?] self source names [$field] [$($name)?]);)*
                Ok(names)
            }

            // One push for each field: some structs have only one, and some none.
            #[allow(unused_mut, clippy::vec_init_then_push)]
            fn values(&self) -> Vec<(&'static str, $crate::options::Value)> {
                let mut values = Vec::new();
                $($crate::options!(@values [$($kind)?] self values [$field] [$($name)?]);)*
                values
            }

            fn resolve(&mut self) {
                $($crate::options!(@resolve [$($kind)?] self [$field] [$type]);)*
                $($resolve(self);)?
            }

            fn problem(&self) -> Option<$crate::options::Refusal> {
                $(if !$when(self) {
                    return None;
                })?
                $($crate::options!(@problem [$($kind)?] self [$field] [$type] [$($name)?] [$($range)?] [$($hint)?]);)*
                $(if let Some(refusal) = $rule(self) {
                    return Some(refusal);
                })?
                None
            }
        }
    };

    (@name [$field:ident] []) => { stringify!($field) };
    (@name [$field:ident] [$name:literal]) => { $name };
    (@some []) => { None };
    (@some [$value:expr]) => { Some($value) };
    (@range []) => { None };
    (@range [$range:expr]) => {{
        #[allow(unused_imports)]
        use $crate::options::range::*;
        Some($range)
    }};

    (@entry [set] [$type:ty] [$($rest:tt)*] $([$($more:tt)*])*) => {
        $crate::options::Entry::Set(<$type as $crate::options::OptionSet>::table)
    };
    (@entry [internal] $([$($rest:tt)*])*) => { $crate::options::Entry::None };
    (@entry [required] $($rest:tt)*) => { $crate::options!(@declared true $($rest)*) };
    (@entry [] $($rest:tt)*) => { $crate::options!(@declared false $($rest)*) };
    (@declared $required:literal [$type:ty] [$default:expr] $field:tt $name:tt [$($alias:literal),*] $range:tt $hint:tt
        $words:tt [$($about:literal)*]) => {
        $crate::options::Entry::Option($crate::options::Declared {
            name: $crate::options!(@name $field $name),
            aliases: &[$($alias),*],
            type_name: <$type as $crate::options::OptionType>::type_name,
            choices: <$type as $crate::options::OptionType>::choices,
            inner: <$type as $crate::options::OptionType>::inner,
            default: || {
                let value: $type = $default;
                $crate::options::OptionType::to_value(&value)
            },
            default_words: $crate::options!(@some $words),
            is_required: $required,
            range: $crate::options!(@range $range),
            hint: $crate::options!(@some $hint),
            about: concat!($($about, "\n"),*),
        })
    };

    (@update [set] $self:ident $source:ident $names:ident [$field:ident] $name:tt) => {
        $names.extend($crate::options::OptionSet::update(&mut $self.$field, $source)?)
    };
    (@update [internal] $($rest:tt)*) => {};
    (@update [$($required:ident)?] $self:ident $source:ident $names:ident [$field:ident] $name:tt) => {
        $crate::options::update_option(
            <Self as $crate::options::OptionSet>::table(),
            $crate::options!(@name [$field] $name),
            &mut $self.$field,
            $source,
            &mut $names,
        )?
    };

    (@values [set] $self:ident $values:ident [$field:ident] $name:tt) => {
        $values.extend($crate::options::OptionSet::values(&$self.$field))
    };
    (@values [internal] $($rest:tt)*) => {};
    (@values [$(required)?] $self:ident $values:ident [$field:ident] $name:tt) => {
        $values.push(($crate::options!(@name [$field] $name), $crate::options::OptionType::to_value(&$self.$field)))
    };

    (@resolve [set] $self:ident [$field:ident] [$type:ty]) => {
        <$type as $crate::options::OptionSet>::resolve(&mut $self.$field)
    };
    (@resolve [$($kind:ident)?] $($rest:tt)*) => {};

    (@problem [set] $self:ident [$field:ident] [$type:ty] $($rest:tt)*) => {
        if let Some(refusal) = <$type as $crate::options::OptionSet>::problem(&$self.$field) {
            return Some(refusal);
        }
    };
    (@problem [$(required)?] $self:ident [$field:ident] [$type:ty] $name:tt [$range:expr] $hint:tt) => {
        if let Some(refusal) = $crate::options::range_problem(
            $crate::options!(@name [$field] $name),
            {
                #[allow(unused_imports)]
                use $crate::options::range::*;
                $range
            },
            &<$type as $crate::options::OptionType>::type_name(),
            $crate::options!(@some $hint),
            &$crate::options::OptionType::to_value(&$self.$field),
        ) {
            return Some(refusal);
        }
    };
    (@problem [$($kind:ident)?] $($rest:tt)*) => {};
}
