//! The roles of a principal, and how the file says them.

use std::fmt;

use strongroom_job::Role;

use super::raw::{Fault, Section};

/// Some roles, at least one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Roles(u8);

impl Roles {
    /// What a principal has of whom the file says nothing: it may submit, and see what came of it.
    pub const USUAL: Self = Self::of(Role::View).and(Role::Submit);

    /// One role.
    #[must_use]
    pub const fn of(role: Role) -> Self {
        Self(1 << role as u8)
    }

    /// These, and one more.
    #[must_use]
    pub const fn and(self, role: Role) -> Self {
        Self(self.0 | Self::of(role).0)
    }

    /// Whether the role is among them, by itself or because `admin` is.
    #[must_use]
    pub const fn has(self, role: Role) -> bool {
        self.0 & (Self::of(role).0 | Self::of(Role::Admin).0) != 0
    }

    /// Those of these that are among `others`, by themselves or because `admin` is; none when there are none.
    #[must_use]
    pub fn meet(self, others: Self) -> Option<Self> {
        let both = Role::ALL.into_iter().filter(|role| self.has(*role) && others.has(*role));
        both.fold(None, |met: Option<Self>, role| Some(met.map_or(Self::of(role), |met| met.and(role))))
    }

    /// Some roles in a list; none of an empty one.
    #[must_use]
    pub fn of_list(roles: &[Role]) -> Option<Self> {
        let (first, rest) = roles.split_first()?;
        Some(rest.iter().fold(Self::of(*first), |roles, role| roles.and(*role)))
    }

    /// Whether every role of `other` is also one of these.
    #[must_use]
    pub fn cover(self, other: Self) -> bool {
        Role::ALL.into_iter().all(|role| self.has(role) || !other.has(role))
    }
}

/// As they are written: `view, submit`.
impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut between = "";
        for role in Role::ALL.into_iter().filter(|role| self.0 & Self::of(*role).0 != 0) {
            write!(f, "{between}{role}")?;
            between = ", ";
        }
        Ok(())
    }
}

/// `roles`, or what `operator` meant before there were any.
pub(super) fn roles(section: &mut Section<'_>) -> Result<Roles, Fault> {
    let operator = section.take("operator");
    let Some(list) = section.take("roles") else {
        let operates = operator.map_or(Ok(false), |value| value.boolean())?;
        return Ok(if operates { Roles::USUAL.and(Role::Operate) } else { Roles::USUAL });
    };
    if let Some(operator) = operator {
        return Err(
            operator.fault("stands beside roles, which says the same: write \"operate\" there instead")
        );
    }
    let empty =
        list.fault("names no role: name one of view, submit, operate and admin, or remove the principal");
    let mut roles: Option<Roles> = None;
    for item in list.list()? {
        let role: Role = item.parsed()?;
        if roles.is_some_and(|roles| roles.0 & Roles::of(role).0 != 0) {
            return Err(item.fault(format_args!("{role} stands twice in the list")));
        }
        roles = Some(roles.map_or(Roles::of(role), |roles| roles.and(role)));
    }
    roles.ok_or(empty)
}
