"""Rule sets by version: which there were, and how two differ. Pure."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from retail_stream.entities import Entity
from retail_stream.errors import SettingsError
from retail_stream.rules.published import Published
from retail_stream.rules.rule_set import Rule, RuleSet

TODAY = "today"


def versions(today: Mapping[Entity, RuleSet], there: Mapping[str, Published]) -> Iterator[tuple[str, ...]]:
    """A row per rule set, by entity, the oldest first: entity, version, number of rules, since when, what it is."""
    for entity, now in today.items():
        for published in (p for p in there.values() if p.rule_set.entity is entity):
            rules = published.rule_set
            since = datetime.fromtimestamp(published.at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            yield entity, rules.version, str(len(rules.rules)), since, TODAY if rules.version == now.version else ""
        if now.key not in there:
            yield entity, now.version, str(len(now.rules)), "no cleaner has started with it", TODAY


def pair(
    old: str, new: str, today: Mapping[Entity, RuleSet], there: Mapping[str, Published]
) -> tuple[RuleSet, RuleSet]:
    """The two rule sets that ``old`` and ``new`` name, of one entity.

    Raises:
        SettingsError: a version is not known, or they belong to two entities.
    """
    known = {p.rule_set.version: p.rule_set for p in there.values()} | {r.version: r for r in today.values()}
    if old == new == TODAY:
        raise SettingsError("Give at least one version; `retail-stream rules` lists them.")
    for version in (old, new):
        if version != TODAY and version not in known:
            raise SettingsError(f"'{version}' is not a version of any rules; `retail-stream rules` lists the versions.")
    before = known[old] if old != TODAY else today[known[new].entity]
    after = known[new] if new != TODAY else today[before.entity]
    if before.entity is not after.entity:
        raise SettingsError(f"{old} is of {before.entity} and {new} of {after.entity}; give two versions of one.")
    return before, after


def differences(before: RuleSet, after: RuleSet) -> list[str]:
    """A line per rule that differs, in the order of the newer set, dropped ones last; empty if nothing differs."""
    old, new = ({r.name: r for r in rules.rules} for rules in (before, after))
    gone = {_content(rule): rule.name for name, rule in old.items() if name not in new}
    lines, renamed = [], set()
    for name, rule in new.items():
        if name in old:
            if _content(old[name]) != _content(rule):
                lines.append(f"~ {name}: {_shown(old[name])} → {_shown(rule)}")
        elif (earlier := gone.get(_content(rule))) is not None and earlier not in renamed:
            renamed.add(earlier)
            lines.append(f"> {earlier} is now {name}")
        else:
            lines.append(f"+ {name}: {_shown(rule)}")
    lines += [f"- {name}: {_shown(rule)}" for name, rule in old.items() if name not in new and name not in renamed]
    if before.limits is not None and after.limits is not None:
        lines += [
            f"+ the limits of {kind} hold for {name}"
            for name, kind in sorted(after.limits.items() - before.limits.items())
        ]
        lines += [
            f"- the limits of {kind} hold for {name}"
            for name, kind in sorted(before.limits.items() - after.limits.items())
        ]
    if before.built_in != after.built_in:
        lines.append(f"~ the rules that are code: version {before.built_in} → {after.built_in}")
    return lines


def _content(rule: Rule) -> tuple[str, ...]:
    return rule.must, rule.action, rule.field, rule.default


def _shown(rule: Rule) -> str:
    return f"{rule.must} ({rule.action}{f' {rule.field} {rule.default!r}' if rule.field else ''})"
