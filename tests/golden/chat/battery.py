"""Snippets of Jinja2 and what jinja2 renders of them in transformers' environment.

Writes battery.json beside this file: the context that all snippets are rendered with, and for
each snippet [template, text], or [template, null] where Jinja2 refuses it (the message, of an
exception that Python may word otherwise tomorrow, is not compared).

Run:   python tests/golden/chat/battery.py
Made with transformers 5.24.0, jinja2 3.1.6, Python 3.11.
"""

import copy
import json
import re
import sys
from pathlib import Path

from transformers.utils.chat_template_utils import _compile_jinja_template

HERE = Path(__file__).parent

CONTEXT = {
    "s": "a.b,c",
    "t": "  Hello wORLD  ",
    "u": "straße ǆ ΑΣ İ ﬁ",
    "w": "one two  three\tfour\nfive",
    "empty": "",
    "lines": "a\nb\r\nc\u2028d\u000be\u0085f\u001cg\r",
    "quote": "it's",
    "both": "it's \"so\"\\n\n\u0007\u00a0\u200b😀",
    "html": "<b class=\"x\">a & 'b'</b>",
    "long": "The quick brown fox jumps over the lazy dog and runs away from the well-known twenty-three hunters.",
    "n": None,
    "i": 7,
    "neg": -7,
    "zero": 0,
    "big": 9223372036854775807,
    "ubig": 18446744073709551615,
    "f": 2.5,
    "small": 1e-05,
    "huge": 1e16,
    "digits": 123456789012345680.0,
    "third": 0.1,
    "yes": True,
    "no": False,
    "l": [3, 1, 2],
    "words": ["banana", "Apple", "cherry", "apple"],
    "mixed": [1, "a", None, True, 2.0, 1e16, [], {}],
    "nested": [[1, [2, [3]]], {"k": [{"z": 1e-7}]}],
    "d": {"b": 1, "a": "x", "C": None, "items": 5},
    "m": {"x": {"y": {"z": "deep"}}, "n": None, "l": [1]},
    "e": {},
    "el": [],
    "rows": [
        {"name": "Bob", "age": 30, "city": {"n": "X"}, "ok": True},
        {"name": "alice", "age": 25, "city": {"n": "y"}, "ok": False},
        {"name": "Carl", "age": 30, "city": {"n": "x"}},
    ],
    "tree": [{"v": 1, "c": [{"v": 2, "c": []}, {"v": 3, "c": [{"v": 4, "c": []}]}]}, {"v": 5, "c": []}],
    "messages": [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello", "tool_calls": [{"function": {"name": "f", "arguments": {"lr": 1e-05, "n": 1e16, "ok": True, "z": None, "s": "it's"}}}]},
        {"role": "tool", "content": [{"type": "text", "text": "part"}]},
    ],
}

SNIPPETS = []


def add(*templates):
    SNIPPETS.extend(templates)


def each(pattern, *values):
    SNIPPETS.extend(pattern.replace("@", value) for value in values)


# Tests.
VALUES = ["s", "n", "i", "f", "yes", "l", "d", "x", "range(3)", "d.items()", "(1, 2)", "l|map('string')", "s.upper", "range", "namespace()", "cycler(1)"]
for test in ["defined", "none", "iterable", "sequence", "mapping", "string", "number", "callable", "boolean", "integer", "float"]:
    add("|".join("{{ (%s) is %s }}" % (value, test) for value in VALUES))
add(
    "{{ i is odd }}{{ i is even }}{{ neg is odd }}{{ 7.0 is odd }}{{ yes is odd }}",
    "{{ n is odd }}", "{{ x is even }}", "{{ s is odd }}",
    "{{ i is divisibleby 7 }}{{ i is divisibleby(2) }}", "{{ i is divisibleby 0 }}",
    "{{ n is none }}{{ x is none }}{{ 0 is none }}{{ n is not none }}",
    "{{ x is undefined }}{{ m.q is defined }}{{ m.q is undefined }}{{ m.n is defined }}",
    "{{ m.q.r is defined }}", "{{ 'abc' is lower }}{{ 'ABC' is upper }}{{ 'Abc' is lower }}{{ '123' is lower }}{{ 1 is lower }}{{ n is upper }}{{ yes is upper }}{{ 'ß' is lower }}",
    "{{ yes is true }}{{ 1 is true }}{{ no is false }}{{ 0 is false }}{{ yes is boolean }}{{ 1 is boolean }}",
    "{{ yes is integer }}{{ yes is number }}{{ 1.0 is integer }}{{ big is integer }}{{ 1.0 is float }}",
    "{{ 1 is in [1, 2] }}{{ 'a' is in 'abc' }}{{ 'b' is in d }}{{ 3 is in(l) }}{{ 9 is not in l }}",
    "{{ 1 is in 5 }}", "{{ 1 is in 'abc' }}", "{{ n is in 'abc' }}", "{{ n is in [none] }}",
    "{{ 1 is eq 1.0 }}{{ 1 is eq(yes) }}{{ 1 is ne 2 }}{{ 1 is lt 2 }}{{ 2 is ge 2 }}{{ 'a' is lessthan 'b' }}{{ 3 is greaterthan 2 }}{{ 1 is equalto 1 }}{{ 2 is le 1 }}{{ 2 is gt 1 }}",
    "{{ 'a' is lt 1 }}", "{{ l is sameas l }}{{ [] is sameas [] }}{{ n is sameas none }}{{ yes is sameas 1 }}{{ 1 is sameas 1 }}",
    "{{ 'upper' is filter }}{{ 'nope' is filter }}{{ 'odd' is test }}{{ 'xx' is test }}",
    "{{ ('<'|e) is escaped }}{{ '<' is escaped }}",
    "{{ i is nope }}", "{% if no %}{{ i is nope }}{% endif %}ok", "{% if yes %}{{ i is nope }}{% endif %}", "{{ i|nope }}", "{% if no %}{{ i|nope }}{% endif %}ok", "{{ (i|nope) if no else 'ok' }}", "{% for q in el %}{{ q|nope }}{% endfor %}",
    "{{ not x is defined }}{{ not n }}{{ x is not defined and yes }}", "{{ 1 + 1 is odd }}", "{{ 3 is odd is even }}",
    "{% if tools is iterable and tools | length > 0 %}T{% endif %}ok", "{% if tools %}T{% else %}F{% endif %}",
    "{{ loop is defined }}{% for a in [1] %}{{ loop is iterable }}{{ loop is sequence }}{{ loop is callable }}{% endfor %}",
)
# Printing.
each("{{ @ }}", "s", "n", "i", "neg", "big", "ubig", "f", "small", "huge", "digits", "third", "yes", "no", "l", "words", "mixed", "nested", "d", "m", "e", "el", "x", "x.y", "quote", "both", "[both]", "[quote]", "[html]",
     "(1,)", "(1, 2)", "()", "1, 2", "range(3)", "range(1, 9, 2)", "d.items()", "d.keys()", "d.values()", "d.items", "d['items']", "d.a", "m.x.y.z", "m['x']['y']", "m.n", "m.n.x", "n.x", "n.x.y", "s.x", "i.x", "x[0]", "x.y.z",
     "[x]", "{'a': x}", "{1: 2, none: 3, (1, 2): 4, 1.5: 5, true: 6}", "{'a': 1, 'a': 2}", "{[1]: 2}", "1.0", "1e3", "1.5e-9", "1e22", "123456789.123456789", "1_000", "0x1F", "0b11", "0o17", "1e400", "-1e400", "[1e400]",
     "5e-324", "1.7976931348623157e308", "0.1 + 0.2", "-0.0", "100000000000000000000000", "[100000000000000000000000]", "'a' 'b'", "'\\x41\\u00e9\\n\\t\\'\\\\\\q\\101'", "\"d\\\"q\"", "'\\ud83d'", "'😀é'", "true", "True", "none", "None", "false", "[true, none, 'x']",
     "[1, 2,]", "{'a': 1,}", "[('a', 1), {'b': (2,)}]", "['\\x00\\x1f\\x7f\\x80\\xad\\u2028\\ue000']", "'abc'.encode()", "namespace(a=1, b='x')", "[namespace(a=1)]", "dict(a=1, b=[2])", "dict([(1, 2)], c=3)", "dict(d)", "dict.fromkeys([1, 2], 0)", "0.1 + 0.7", "1/3", "2/1", "7//2", "1e15 + 0.3", "1e16 + 1", "10**20", "2**100", "2**-1", "4**0.5")
# Arithmetic.
each("{{ @ }}", "7 % 3", "-7 % 3", "7 % -3", "-7 // 2", "7 // -2", "7.5 // 2", "-7.5 % 2", "7.5 % -2", "1 / 0", "1 // 0", "1.0 % 0", "0 ** -1", "2 ** 3 ** 2", "-2 ** 2", "2 ** -2", "(-8) ** (1/3)", "yes + yes", "yes * 3", "-yes", "+yes", "-f", "- 'a'", "'a' + 'b'", "'a' + 1", "1 + 'a'", "'a' + n", "n + 1", "x + 1", "1 + x", "'a' + x", "x ~ 'a'", "'a' * 3", "3 * 'a'", "'a' * -1", "[1] * 2", "2 * (1,)", "'a' * 1.0", "[1] + [2]", "[1] + (2,)", "(1,) + (2,)", "d + d", "l - 1",
     "1 ~ 2 ~ 'x' ~ n ~ yes ~ 1e16 ~ [1.0, 'a']", "1 + 2 ~ 3", "1 ~ 2 + 3", "'a' ~ 1 + 2", "2 * 3 ~ 4", "big + 1", "big * big", "ubig + 1", "big * 1.0", "1 + 1.0", "10 // 3 * 3 + 10 % 3", "i - -1", "1 - 1.0", "5 * 0.1", "0.1 * 3", "1e308 * 10", "9007199254740993 + 0.0", "9007199254740993 == 9007199254740992.0", "9007199254740993 > 9007199254740992.0")
# Formatting by %.
each("{{ @ }}", "'%s' % 1", "'%s-%s' % ('a', 1.0)", "'%s' % n", "'%s' % [1, 'a']", "'%s' % (1, 2)", "'%s %s' % (1,)", "'%s' % x", "'%d' % 3.9", "'%d' % 'a'", "'%05d|%-5d|%+d|% d' % (42, 42, 42, 42)", "'%5.1f|%.3e|%g|%G|%g' % (3.14159, 31415.9, 0.00001, 1e20, 100000)", "'%x %X %o %#x' % (255, 255, 8, 255)", "'%c%c' % (65, 'b')", "'%r %a' % ('é', 'é')", "'%%'  % ()", "'100%' % ()", "'%(a)s %(b)03d' % d", "'%(q)s' % d", "'%(a)s' % 1", "'a' % 1", "'a' % d", "'a' % []", "'%*d' % (5, 42)", "'%-8s|%8s|%.2s' % ('ab', 'cd', 'efg')", "'%f' % 1e400", "'%.0f %.0f %.0f' % (0.5, 1.5, 2.5)", "'%i' % yes", "'%s' % d", "'%q' % 1", "'%.3s' % 1.23456", "'%e' % 0", "'%.10g' % 0.1", "'%#.3g' % 1.0", "'%08.3f' % -3.14159", "'%s' % ('a',)", "'%s|format(1)'|format(2)", "'%s, %s'|format('a', 'b')", "'%(x)s'|format(x=1)", "'%(x)s'|format(1, x=1)", "5|format(1)")
# str.format.
each("{{ @ }}", "'{} {}'.format(1, 'a')", "'{0}{1}{0}'.format('a', 'b')", "'{a} {b[0]} {c.a}'.format(a=1, b=l, c=d)", "'{:>5}|{:<5}|{:^5}|{:*^7}'.format('ab', 'cd', 'e', 'f')", "'{:05d} {:+} {:,} {:_}'.format(42, 42, 1234567, 1234567)", "'{:.2f} {:.3} {:e} {:%} {:g}'.format(3.14159, 3.14159, 12345.678, 0.25, 1e10)", "'{:x} {:#x} {:b} {:o} {:c}'.format(255, 255, 5, 8, 65)", "'{!r} {!s}'.format('a', 'b')", "'{{}} {}'.format(1)", "'{}'.format()", "'{a}'.format(b=1)", "'{:{w}}|'.format('a', w=4)", "'{:d}'.format('a')", "'{:>5}'.format(yes)", "'{}'.format(yes)", "'{:5}'.format(n)", "'{}'.format(n)", "'{.__class__}'.format('a')", "'{0.real}'.format(5)", "'{:010.2f}'.format(-3.14159)", "'{:,.2f}'.format(1234567.891)", "'{:.3}'.format('abcdef')", "'{a}'.format_map({'a': 1})", "'{} {0}'.format(1)", "'{'.format(1)", "'{:=+6}'.format(5)", "'{:.0f}'.format(2.5)", "'{:5.1f}|{:<8}|{:^9.3}'.format(2.25, 1.5, 1234.5)", "'{:.3}'.format(1234567.0)", "'{:.2}'.format(1.0)")
# Comparison and logic.
each("{{ @ }}", "1 == 1.0", "1 == yes", "0 == no", "1 == '1'", "n == none", "x == y", "x == n", "x == ''", "[1] == [1.0]", "[1] == (1,)", "(1, 2) == (1, 2)", "d == d", "{'a': 1} == {'a': 1.0}", "{'a': 1, 'b': 2} == {'b': 2, 'a': 1}", "range(3) == range(3)", "range(0) == range(1, 1)", "1 < 2 < 3", "1 < 3 < 2", "1 < 2 > 1", "'a' < 'b'", "'a' < 1", "n < 1", "n == 0", "[1, 2] < [1, 3]", "[1] < [1, 0]", "(1,) < [1]", "d < d", "x < 1", "yes < 2", "1.5 > 1", "'Z' < 'a'", "'é' > 'z'", "1 in [1.0]", "yes in [1]", "'a' in d", "1 in d", "[1] in d", "'x' in d.values()", "('b', 1) in d.items()", "n in [none]", "2 in range(3)", "'' in 'abc'", "'b' not in 'abc'", "1 not in x", "'a' in n", "'a' in 1", "1 in 'a'", "x in 'a'", "not 1 == 2", "1 and 2", "0 and 2", "0 or 'z'", "'' or n or []", "not ''", "yes and not no", "1 if yes", "1 if no", "(1 if no) is defined", "'a' if no else 'b' if no else 'c'", "1 if x else 2", "nan == nan if false else 3", "e or 'empty'", "range(0) or 'r'", "namespace() and 1", "0.0 or 'z'", "x or 'z'", "1 == 1 == 1", "1 != 1", "'a' != x")
# Subscripts.
each("{{ @ }}", "l[0]", "l[-1]", "l[5]", "l[5] is defined", "l['a']", "l[yes]", "l[1.0]", "l[n]", "l.0", "l.1", "s[0]", "s[-1]", "s[9]", "l[1:]", "l[:-1]", "l[::-1]", "l[::2]", "l[5:]", "l[-2:]", "l[2:0:-1]", "l[:n]", "s[1:4]", "s[::-1]", "s[-3:]", "s[4:1:-2]", "'héllo😀'[-2:]", "l[::0]", "l['a':]", "l[1.0:]", "(1, 2, 3)[1:]", "range(10)[2:8:3]", "range(10)[-1]", "range(10)[::-1]", "d[:1]", "n[1:]", "i[1:]", "x[1:]", "n[0]", "i[0]", "d['a']", "d['zz']", "d[n]", "d[[1]]", "d.zz", "d.get('zz')", "d.get('zz', 5)", "d.get('a')", "d.keys", "l.append", "l.append(1)", "l.pop() if no else 1", "d.update({})", "d.pop('a')", "d.setdefault('q', 1)", "d.clear()", "''.__class__", "''.__class__.__mro__", "''['__class__'] is defined", "d.__len__", "s['upper']()", "l['count'](1)", "d['get']('a')", "messages[-1].content[0].text", "messages[0]['role']", "messages[:1]", "messages[1:][0].role", "m.l.0", "rows.0.name", "nested[1].k[0]['z']", "i.real", "i.bit_length()", "f.is_integer()", "yes.real", "f.imag", "i.numerator", "range(5).stop", "(2.0).is_integer()", "l.copy()", "d.copy() == d", "s.nope", "s.nope()", "s.nope is defined", "l[0, 1]", "d['b', 'a']", "{(1, 2): 'v'}[1, 2]")
# Methods of str.
each("{{ @ }}", "t.upper()", "t.lower()", "t.strip()", "t.lstrip()", "t.rstrip()", "t.title()", "s.title()", "t.capitalize()", "t.swapcase()", "u.upper()", "u.lower()", "u.title()", "u.capitalize()", "u.casefold()", "u.swapcase()", "\"they're bill's\".title()", "'ΑΣ'.lower()", "'ΑΣΑ ΑΣ.'.lower()", "s.split('.')", "s.split()", "w.split()", "w.split(' ')", "w.split(none, 1)", "w.split(' ', 2)", "w.split(sep=' ', maxsplit=1)", "w.rsplit(' ', 1)", "w.rsplit(none, 2)", "w.rsplit()", "s.split('')", "s.split(n)", "empty.split()", "empty.split(',')", "'  a b  '.split(none, 1)", "'  a b  '.rsplit(none, 1)", "'a\\x1cb\\u2003c'.split()", "lines.splitlines()", "lines.splitlines(true)", "lines.splitlines(keepends=yes)", "empty.splitlines()", "'a\\n'.splitlines()", "s.partition('.')", "s.rpartition(',')", "s.partition('q')", "s.rpartition('q')", "s.partition('')", "s.replace('.', '-')", "'aaa'.replace('a', 'b', 2)", "'abc'.replace('', '-')", "'abc'.replace('', '-', 2)", "s.replace(1, 2)", "s.replace('a')", "s.startswith('a')", "s.startswith(('x', 'a'))", "s.startswith('b', 2)", "s.startswith(['a'])", "s.endswith('c')", "s.endswith(('b', 'c'), 0, 3)", "s.find('b')", "s.find('q')", "s.find('b', 3)", "s.rfind('.')", "s.index('b')", "s.index('q')", "s.rindex('c')", "s.count('a')", "'aaaa'.count('aa')", "'abc'.count('')", "s.count('.', 2)", "s.join(['x', 'y'])", "', '.join(words)", "', '.join(words|map('upper'))", "', '.join([1, 2])", "','.join('abc')", "','.join(d)", "','.join(x)", "'-'.join([])", "s.zfill(8)", "'-5'.zfill(4)", "'+5'.zfill(4)", "'ab'.ljust(5) ~ '|'", "'ab'.rjust(5, '*')", "'ab'.center(5, '*')", "'abc'.center(6, '-')", "'ab'.ljust(1)", "'ab'.rjust(5, 'xy')", "'TestHook'.removeprefix('Test')", "'TestHook'.removesuffix('Hook')", "'a'.removeprefix('b')", "'xxaxx'.strip('x')", "'xyaxy'.lstrip('yx')", "'abc'.strip('')", "'\\x1c a \\x1f\\u3000'.strip()", "'\\u200ba\\ufeff'.strip()|length", "'a\\tb'.expandtabs()", "'a\\tb\\n\\tc'.expandtabs(4)", "'abc'.translate({97: 'x', 98: none})", "'abc'.translate('abc'.maketrans('ab', 'xy'))", "'abc'.maketrans({'a': 'b'})", "'é'.encode('utf-8')", "'é'.encode().decode()", "t.nope()", "t.upper(1)", "t.strip(1)", "s.upper ~ ''")
for method in ["isalpha", "isdigit", "isdecimal", "isnumeric", "isalnum", "isspace", "islower", "isupper", "istitle", "isascii", "isprintable", "isidentifier"]:
    add("|".join("{{ %s.%s() }}" % (text, method) for text in ["'abc'", "'ABC'", "'Abc Def'", "''", "'12'", "'²③'", "'½'", "'٣'", "'一二'", "' \\x1c'", "'é'", "'a1_'", "'1a'", "'ǅ'", "'한글'", "'a\\n'", "'ª'"]))
# Methods of lists, dicts, tuples.
each("{{ @ }}", "l.index(1)", "l.index(9)", "l.count(3)", "[1, yes, 1.0].count(1)", "(1, 2).index(2)", "(1, 1).count(1)", "l.index(1, 2)", "l.sort()", "l.reverse()", "l.insert(0, 1)", "l.extend([1])", "l.remove(1)", "d.keys()|list", "d.values()|list", "d.items()|list", "d.keys()|length", "d.items()|first", "d.keys()[0]", "d.get()", "d.get('a', 1, 2)", "e.items()|list", "e.get('a').b", "d.fromkeys('ab')", "d.nope()", "n.get('a')", "x.get('a')", "i.get", "m.x.items()|list", "d.items()|list|length", "range(5)|list", "range(5, 0, -2)|list", "range(0)|list", "range(200000)", "range(1, 2, 0)", "range('a')", "range(2.0)", "range(3).index(2)", "range(5).count(9)")
# Filters.
each("{{ @ }}", "neg|abs", "'a'|abs", "f|abs", "x|abs", "s|length", "l|length", "d|length", "i|length", "n|length", "x|length", "range(4)|length", "'😀é'|length", "l|count", "n|default('z')", "x|default('z')", "x|d", "''|default('z', true)", "n|default('z', true)", "0|default('z', boolean=true)", "m.q|default('z')", "m.q.r|default('z')", "l|first", "el|first", "s|first", "d|first", "x|first", "n|first", "l|last", "el|last", "s|last", "d|last", "x|last", "l|map('string')|last", "l|join", "l|join(', ')", "mixed|join('|')", "rows|join(', ', attribute='name')", "rows|join(', ', 'age')", "x|join", "n|join", "'abc'|join('-')", "d|join(',')", "l|sort", "words|sort", "words|sort(case_sensitive=true)", "words|sort(reverse=true)", "rows|sort(attribute='age')|map(attribute='name')|list", "rows|sort(attribute='age,name')|map(attribute='name')|join(',')", "rows|sort(attribute='city.n', reverse=yes)|map(attribute='name')|join(',')", "mixed|sort", "[1, 'a']|sort", "[2.5, 1, yes]|sort", "d|sort", "[[2, 1], [1, 5], [1]]|sort", "x|sort", "d|dictsort", "{'b': 1, 'A': 2}|dictsort", "{'b': 1, 'A': 2}|dictsort(true)", "{'b': 1, 'A': 2}|dictsort(by='value')", "{'b': 1, 'A': 2}|dictsort(by='value', reverse=true)", "d|dictsort(by='q')", "l|dictsort", "[1, 2, 1, 3]|unique|list", "words|unique|list", "words|unique(true)|list", "rows|unique(attribute='age')|map(attribute='name')|list", "[[1], [1]]|unique|list", "[1, 1.0, yes]|unique|list", "l|min", "l|max", "words|min", "words|max", "words|max(true)", "rows|max(attribute='age')", "el|min", "[1, 'a']|min", "el|max is defined", "l|sum", "[0.1, 0.2]|sum", "rows|sum(attribute='age')", "l|sum(start=10)", "rows|sum('age', 1)", "words|sum", "x|sum", "n|sum", "[[1], [2]]|sum(start=[])", "['a']|sum(start='')", "[1, x]|sum", "l|reverse|list", "'abc'|reverse", "d|reverse|list", "l|map('string')|reverse|list", "n|reverse", "x|reverse|list", "l|list", "'abc'|list", "d|list", "n|list", "x|list", "i|list",
     "[1,2,3,4,5]|batch(2)|list", "[1,2,3,4,5]|batch(2, 'x')|list", "[1,2,3,4,5]|slice(2)|list", "[1,2,3,4,5]|slice(3, 'x')|list", "[1,2]|slice(3)|list", "l|slice(0)|list", "el|batch(2)|list", "l|map('string')|list", "words|map('upper')|join(',')", "words|map('replace', 'a', 'o')|list", "rows|map(attribute='name')|list", "rows|map(attribute='ok')|list", "rows|map(attribute='ok', default='d')|list", "rows|map(attribute='city.n')|list", "nested|map(attribute=0)|list", "l|map|list", "l|map('nope')|list", "x|map('upper')|list", "n|map('upper')|list", "['1', '2']|map('int')|sum", "l|map('default', 1)|list", "l|map(attribute='x', foo=1)|list", "l|select('odd')|list", "l|select|list", "mixed|select|list", "mixed|select('string')|list", "l|select('gt', 1)|list", "l|select('in', [1, 2])|list", "l|reject('odd')|list", "mixed|reject('none')|list", "l|select('nope')|list", "rows|selectattr('ok')|map(attribute='name')|list", "rows|selectattr('age', 'eq', 30)|map(attribute='name')|list", "rows|selectattr('ok', 'defined')|list|length", "rows|rejectattr('ok')|map(attribute='name')|list", "rows|rejectattr('age', '==', 30)|list|length", "messages|selectattr('role', 'equalto', 'user')|list", "rows|selectattr()|list", "rows|selectattr('q.r')|list", "rows|groupby('age')|list", "rows|groupby('age')|map('first')|list", "rows|groupby('city.n')|map(attribute='grouper')|list", "rows|groupby('city.n', case_sensitive=true)|map(attribute='list')|map('length')|list", "rows|groupby('ok', default=false)|map('first')|list", "rows|groupby('ok')|list", "d|items|list", "x|items|list", "l|items|list",
     "s|upper", "s|title", "t|title", "'foo-bar (baz) [q'|title", "u|title", "t|capitalize", "i|upper", "n|upper", "x|upper", "l|lower", "t|trim", "'xax'|trim('x')", "n|trim", "'\\x1ca\\x1f'|trim", "s|replace('.', '-')", "'aaa'|replace('a', 'b', 2)", "1.5|replace('.', ',')", "[1]|replace(1, 2)", "x|replace('a', 'b')", "s|string", "1e16|string", "l|string", "yes|string ~ 1", "x|string", "'ab'|center(6) ~ '|'", "'abc'|center|length", "w|wordcount", "'a-b c_d é2'|wordcount", "5|wordcount", "long|truncate(20)", "long|truncate(20, true)", "long|truncate(20, end='…')", "long|truncate(20, leeway=100)", "long|truncate(2)", "'foo bar'|truncate(6)", "'foo bar baz'|truncate(5, false, '', 0)", "x|truncate", "5|truncate", "long|wordwrap(20)", "long|wordwrap(10, true)", "'aaaaaaaaaaaa bb'|wordwrap(5)", "'aaaaaaaaaaaa bb'|wordwrap(5, false)", "long|wordwrap(20, wrapstring='|')", "'a  b\\n\\n c d-e--f well-known'|wordwrap(4)", "'well-known-thing'|wordwrap(6, break_on_hyphens=false)", "w|indent", "w|indent(2, true)", "'a\\n\\nb'|indent(2)", "'a\\n\\nb'|indent(2, blank=true)", "'a\\nb\\n'|indent('> ')", "'a\\nb\\n'|indent(first=true)", "''|indent(2)", "n|indent", "x|indent", "'a\\u2028b'|indent",
     "html|e", "html|escape|length", "html|e|e", "html|forceescape", "html|e|forceescape", "html|safe", "('<'|e) + '<'", "'<' + ('<'|e)", "('<'|e) ~ '<'", "[html|e]", "('<'|e).upper()", "('<'|e) % 1", "('%s'|safe) % '<'", "('a'|safe).replace('a', '<')", "('<'|e).split(';')", "('<'|e)|upper", "n|e", "5|e", "x|e", "html|striptags", "'<!-- c -->a  <b>b</b>\\n c'|striptags", "'&lt;a&gt; &amp;'|striptags", "html|urlencode", "'a b/c?é'|urlencode", "{'a': 'b c', 'd/': 1}|urlencode", "[('a', 1), ('b', none)]|urlencode", "5|urlencode", "x|urlencode", "{'class': 'a<b', 'id': none, 'n': 1, 'u': x}|xmlattr", "{'class': 'a'}|xmlattr(false)", "{'a b': 1}|xmlattr", "{}|xmlattr", "l|xmlattr",
     "2.5|round", "3.5|round", "2.675|round(2)", "1234.5|round(-2)", "1250|round(-2)", "1350|round(-2)", "5|round", "5|round(2)", "-2.5|round", "2.1|round(0, 'ceil')", "2.9|round(method='floor')", "2.123|round(2, 'ceil')", "7|round(0, 'ceil')", "2.5|round(1, 'x')", "'a'|round", "x|round", "1e300|round(2)", "0.5|round", "1.005|round(2)", "'42'|int", "'42.9'|int", "'x'|int", "'x'|int(5)", "'0x1f'|int(base=16)", "'1f'|int(0, 16)", "'0b11'|int(0, 0)", "'077'|int(0, 8)", "' 42 '|int", "'1_000'|int", "'٣'|int", "2.9|int", "-2.9|int", "n|int", "n|int(3)", "yes|int", "l|int", "x|int", "'1e3'|int", "'inf'|int", "1e400|int", "'nan'|int(7)", "'2.5'|float", "'x'|float", "'x'|float(1)", "n|float", "'1e400'|float", "'nan'|float", "' 1_0.5 '|float", "'1__0'|float", "i|float", "x|float", "yes|float", "1000|filesizeformat", "1|filesizeformat", "500|filesizeformat", "1234567|filesizeformat", "1234567|filesizeformat(true)", "'2000'|filesizeformat", "'x'|filesizeformat",
     "d|pprint", "words|pprint", "s|pprint", "{'b': 1, 'a': [1.0]}|pprint", "m|attr('x')", "s|attr('upper') is defined", "x|attr('y')", "d|attr('get') is callable", "s|attr('__class__')",
     "d|tojson", "mixed|tojson", "nested|tojson", "html|tojson", "u|tojson", "u|tojson(ensure_ascii=true)", "both|tojson", "d|tojson(indent=2)", "d|tojson(2)", "nested|tojson(indent=1)", "e|tojson(indent=2)", "el|tojson(indent=4)", "d|tojson(separators=(',', ':'))", "d|tojson(sort_keys=true)", "{'b': 1, 'a': {'d': 1, 'c': 2}}|tojson(sort_keys=true, indent=2)", "d|tojson(indent='--')", "d|tojson(indent=0)", "(1, 2)|tojson", "x|tojson", "[x]|tojson", "d.items()|tojson", "d.keys()|list|tojson", "range(2)|tojson", "{1: 2, none: 3, 1.5: 4, true: 5}|tojson", "{(1, 2): 3}|tojson", "1e400|tojson", "'nan'|float|tojson", "small|tojson", "huge|tojson", "ubig|tojson", "100000000000000000000|tojson", "l|map('string')|tojson", "'\\x7f\\u2028'|tojson", "d|tojson(nope=1)", "messages[1].tool_calls|tojson", "('<'|e)|tojson",
     "l|random if no else 1", "s|lower|upper|title", "-1|abs", "- 1|abs", "(-1)|abs", "'a,b'|split(',')", "x|nope", "5 + '3'|int", "not x|default(false)", "'a' ~ 'b'|upper", "words|join(',')|upper", "l|sort|reverse|list|first", "[3, 1]|sort|join(',')", "i|default", "s|upper()", "s|replace", "s|upper(1)", "l|join(d=',', attribute=none)", "l|join(q=1)", "'%.2f'|format(i)", "s|list|sort|join")
# Undefined everywhere.
each("{{ @ }}", "x.y", "x['y']", "x()", "x.y()", "-x", "x|upper", "x in [1]", "[x][0]", "x is defined and x.y", "x is defined and x.y or 'z'", "x or y or 'z'", "x == y", "x != y", "[x] == [y]", "{x: 1}", "x ~ x", "x if x", "(x if x).y", "x < y", "x[x]", "l[x]", "d[x]", "s[x]", "dict(x)", "namespace(a=x).a", "range(x)", "x * 2", "'a' * x", "x % 2", "raise_exception(x)", "strftime_now(x)", "x.__class__", "x['__class__']", "(x|default).y")
add("{% for a in x %}{{ a }}{% else %}none{% endfor %}", "{% for a in n %}{{ a }}{% endfor %}", "{% for a in i %}{{ a }}{% endfor %}", "{% for a in x.y %}{% endfor %}", "{% if x %}a{% elif y %}b{% else %}c{% endif %}", "{% if x.y %}a{% endif %}", "{% set a = x %}{{ a is defined }}", "{% set a, b = x %}", "{% with a = x %}{{ a }}{% endwith %}", "{% for k, v in x.items() %}{% endfor %}", "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k, v in d %}{{ k }}{% endfor %}", "{% for k in d %}{{ k }};{% endfor %}", "{% for c in s %}{{ c }}-{% endfor %}", "{% for a, b in ['xy', 'zw'] %}{{ a }}{{ b }};{% endfor %}", "{% for a, b in [(1, 2, 3)] %}{% endfor %}", "{% for (a, b), c in [((1, 2), 3)] %}{{ a }}{{ b }}{{ c }}{% endfor %}")
# Loops.
LOOP = "{{ loop.index }}/{{ loop.length }} {{ loop.index0 }} {{ loop.revindex }} {{ loop.revindex0 }} {{ loop.first }} {{ loop.last }} {{ loop.depth }}{{ loop.depth0 }};"
add(
    "{% for a in l %}" + LOOP + "{% endfor %}", "{% for a in l if a > 1 %}" + LOOP + "{% endfor %}", "{% for a in l|map('string') %}" + LOOP + "{% endfor %}",
    "{% for a in l %}{{ loop.previtem }}<{{ a }}>{{ loop.nextitem }};{% endfor %}", "{% for a in l if a != 1 %}{{ loop.previtem }}<{{ a }}>{{ loop.nextitem }};{% endfor %}",
    "{% for a in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}", "{% for a in l %}{{ loop.previtem.x }}{% endfor %}",
    "{% for a in [1,1,2,2,1] %}{{ loop.changed(a) }}{% endfor %}", "{% for a in [1,1,2] %}{{ loop.changed(a, 1) }}{{ loop.changed() }}{% endfor %}", "{% for a in l %}{{ loop.cycle('x', 'y') }}{% endfor %}", "{% for a in l %}{{ loop.cycle() }}{% endfor %}",
    "{% for a in l %}{% if a == 1 %}{% continue %}{% endif %}{{ a }}{% endfor %}", "{% for a in l %}{% if a == 1 %}{% break %}{% endif %}{{ a }}{% endfor %}", "{% for a in l %}{% if loop.index > 1 %}{% break %}{% endif %}{% else %}e{% endfor %}", "{% for a in el %}x{% else %}empty{% endfor %}", "{% for a in l if a > 5 %}x{% else %}empty{% endfor %}",
    "{% for n1 in tree recursive %}{{ n1.v }}{% if n1.c %}({{ loop(n1.c) }}){% endif %}{% endfor %}", "{% for n1 in tree recursive %}{{ loop.depth }}:{{ n1.v }}{{ loop.last }} {{ loop(n1.c) }}{% endfor %}", "{% for a in l %}{{ loop(l) }}{% endfor %}", "{% for a in l recursive %}{{ loop() }}{% endfor %}",
    "{% for a in l %}{% for b in 'xy' %}{{ loop.index }}{{ b }}{% endfor %}{{ loop.index }};{% endfor %}", "{% for a in l %}{% set outer = loop %}{% for b in 'xy' %}{{ outer.index }}{{ loop.index }} {% endfor %}{% endfor %}",
    "{% set c = 0 %}{% for a in l %}{% set c = c + a %}{{ c }}{% endfor %}{{ c }}", "{% set ns = namespace(c=0) %}{% for a in l %}{% set ns.c = ns.c + a %}{% endfor %}{{ ns.c }}", "{% for a in l %}{% set b = a %}{% endfor %}{{ b is defined }}{{ a is defined }}", "{% for a in l %}{% if loop.first %}{% set q = 1 %}{% endif %}{{ q is defined }}{% endfor %}", "{% set ns = namespace(f=false) %}{% for a in l if not ns.f %}{{ a }}{% set ns.f = true %}{% endfor %}", "{% set ns = namespace(f=false) %}{% for a in l if not ns.f %}{{ a }}{{ loop.last }}{% set ns.f = true %}{% endfor %}",
    "{% for a in l %}{{ loop }}{% break %}{% endfor %}x" if False else "{% for a in l %}{{ loop.nope }}{% endfor %}x", "{% for a in l %}{{ loop.nope.x }}{% endfor %}", "{% for loop in l %}{% endfor %}", "{% break %}", "{% for a in l %}{% macro z() %}{% break %}{% endmacro %}{% endfor %}", "{% for a in range(3) %}{{ a }}{% endfor %}", "{% for a in l|sort|reverse %}{{ a }}{% endfor %}", "{% for a in (1, 2), (3, 4) %}{{ a }}{% endfor %}", "{% for a in 1, 2 %}{{ a }}{% endfor %}", "{% for a in l[::-1] %}{{ a }}{% endfor %}", "{% for g, items in rows|groupby('age') %}{{ g }}:{{ items|map(attribute='name')|join(',') }};{% endfor %}", "{% for g in rows|groupby('age') %}{{ g.grouper }}:{{ g.list|length }};{% endfor %}", "{% for b in [1,2,3]|batch(2) %}{{ b }}{% endfor %}", "{% set g = l|map('string') %}{{ g|list }}{{ g|list }}", "{% set g = l|select('odd') %}{{ g|first }}{{ g|list }}", "{% set g = l|map('string') %}{{ '1' in g }}{{ g|list }}", "{% set g = l|map('string') %}{% if g %}yes{% endif %}", "{{ l|map('string')|length }}", "{{ (l|map('string'))[0] is defined }}", "{% for a in l|map('nope') %}{% endfor %}", "{% set q = l|map('nope') %}ok",
)
# Sets, scopes, namespaces, macros, calls, blocks.
add(
    "{% set a = 1 %}{% if yes %}{% set a = 2 %}{% endif %}{{ a }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = [1] %}", "{% set a, b = 'xy' %}{{ b }}", "{% set (a, b) = (1, 2) %}{{ a }}", "{% set a = 1, 2 %}{{ a }}", "{% set a %}x{{ 1 }}{% endset %}[{{ a }}]", "{% set a | upper | replace('X', 'y') %}x{{ 1 }}{% endset %}{{ a }}", "{% set a %}{% set b = 1 %}{% endset %}{{ b is defined }}", "{% set a.b = 1 %}", "{% set d.b = 1 %}", "{% set true = 1 %}", "{% set a = a %}{{ a }}", "{% set i = i + 1 %}{{ i }}", "{% set range = 1 %}{{ range }}",
    "{% set ns = namespace() %}{% set ns.a = 1 %}{{ ns.a }}{{ ns.b is defined }}{{ ns['a'] }}", "{% set ns = namespace(d) %}{{ ns.a }}{{ ns.items }}", "{% set ns = namespace(a=1, b=2) %}{{ ns }}", "{% set ns = namespace(_a=1) %}", "{% set ns = namespace() %}{% set ns._a = 1 %}", "{% set ns = namespace() %}{% set ns.l = ns.l + 1 %}", "{% set ns = namespace(l=[]) %}{% for a in l %}{% set ns.l = ns.l + [a] %}{% endfor %}{{ ns.l }}", "{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}",
    "{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a is defined }}", "{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}{{ a }}", "{% with %}{% set a = 1 %}{{ a }}{% endwith %}{{ a }}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=4, a=5) }} {{ m() }}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(1) }}", "{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{% endmacro %}{{ m(q=1) }}", "{% macro m(a) %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, q=4) }}", "{% macro m() %}{{ v }}{% endmacro %}{% set v = 1 %}{{ m() }}", "{% set v = 1 %}{% macro m() %}{{ v }}{% endmacro %}{% set v = 2 %}{{ m() }}", "{% macro m(n1) %}{{ n1 }}{% if n1 > 0 %}{{ m(n1 - 1) }}{% endif %}{% endmacro %}{{ m(3) }}", "{% for a in l %}{% macro m() %}{{ a }}{% endmacro %}{{ m() }}{% endfor %}", "{% macro m() %}{{ a }}{% endmacro %}{% for a in l %}{{ m() }}{% endfor %}x", "{% macro m() %}{% set z = 1 %}{% endmacro %}{{ m() }}{{ z is defined }}", "{% macro m(a) %}{{ a is defined }}{{ a }}{% endmacro %}{{ m() }}{{ m(x) }}{{ m(none) }}", "{% macro m(a='<') %}{{ a }}{% endmacro %}{{ m()|upper }}{{ m() ~ 1 }}{{ m() is string }}", "{{ m is defined }}{% macro m() %}{% endmacro %}{{ m is callable }}{{ m }}{{ m.name }}{{ m.arguments }}", "{% macro m(a, b) %}{% endmacro %}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.caller }}", "{% macro m(a=1, b) %}{% endmacro %}", "{% macro m() %}  x  {% endmacro %}[{{ m()|trim }}]", "{% macro m(*a) %}{% endmacro %}", "{{ m(*[1, 2]) }}{% macro m(a, b) %}{% endmacro %}", "{% macro m(a, b) %}{{ a }}{{ b }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(**{'a': 3, 'b': 4}) }}", "{% if yes %}{% macro m() %}q{% endmacro %}{% endif %}{{ m() }}",
    "{% macro m() %}[{{ caller() }}]{% endmacro %}{% call m() %}body{{ i }}{% endcall %}", "{% macro m() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b=5) m() %}{{ a }}{{ b }}{% endcall %}", "{% macro m() %}x{% endmacro %}{% call m() %}{% endcall %}", "{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}", "{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}", "{% call i() %}{% endcall %}",
    "{% filter upper %}a{{ s }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}a{{ s }}{% endfilter %}", "{% filter nope %}{% endfilter %}", "{% block a %}x{{ i }}{% endblock %}", "{% block a %}x{% endblock %}{{ self.a() }}", "{% for q in l %}{% block a scoped %}{{ q }}{% endblock %}{% endfor %}", "{% for q in l %}{% block a %}{{ q }}{% endblock %}{% endfor %}x", "{% block a %}{% endblock %}{% block a %}{% endblock %}", "{% block a %}1{% endblock a %}", "{% include 'x' %}", "{% import 'x' as y %}", "{% from 'x' import y %}", "{% extends 'x' %}", "{% if no %}{% include 'x' %}{% endif %}ok", "{% include 'x' ignore missing %}", "{% do l %}", "{% print i, s %}", "{% print %}", "{% autoescape false %}{{ html }}{% endautoescape %}", "{% generation %}a{{ i }}{% endgeneration %}", "{% for q in l %}{%- generation -%} a {{ q }} {%- endgeneration -%}{% endfor %}", "{% generation %}{% set z = 1 %}{% endgeneration %}{{ z is defined }}",
    "{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.next() }}", "{{ cycler() }}", "{% set j = joiner(', ') %}{% for a in l %}{{ j() }}{{ a }}{% endfor %}", "{% set j = joiner() %}{{ j() }}{{ j() }}", "{{ raise_exception('no') }}", "{% if no %}{{ raise_exception('no') }}{% endif %}ok", "{{ strftime_now('%%') }}", "{{ strftime_now('%Y')|length }}", "{{ strftime_now('x') }}", "{{ strftime_now('') }}|", "{{ dict([1]) }}", "{{ dict(1) }}", "{{ lipsum is defined }}", "{{ self }}" if False else "{{ self is defined }}", "{{ super() }}", "{{ range(3, 1) }}", "{{ caller }}x", "{{ varargs }}x", "{{ i() }}", "{{ 'a'() }}", "{{ n() }}", "{{ d.a() }}", "{{ d.b.c.d }}", "{{ foo.bar }}", "{{ foo }}", "{{ (1).foo }}",
)
# Whitespace.
add(
    "a\n{% if yes %}\nb\n{% endif %}\nc", "a\n  {% if yes %}\n  b\n  {% endif %}\n  c", "a {% if yes %} b {% endif %} c", "a\n\n{%- if yes -%}\n\n b \n{%- endif -%}\n\nc", "a\n  {%+ if yes %}\nb\n  {%+ endif %}\nc", "a\n{% if yes +%}\nb\n{% endif +%}\nc", "  {{ i }}  \n  {{- i -}}  \n b", "{{ i }}\n{{ i }}", "{{ i -}}\n\n{{ i }}", "{# c #}\na", "  {# c #}\n  a", "a {#- c -#} b", "a\n  {# c #}  \nb", "a{#+ c +#}\nb", "a\n\t{% set q = 1 %}\n\tb", "a\n\u00a0{% set q = 1 %}b", "a\u3000\n{%- set q = 1 %}b", "{% set q = 1 %}\n\na", "{% set q = 1 %} \na", "{% set q = 1 %}\r\na\r\nb\rc", "a\r\n{% if yes %}\r\nb\r\n{% endif %}\r\nc\r\n", "a\n", "a\n\n", "a\r\n", "a\r", "{{ i }}\n", "{{ i }}\n\n", "{% set q = 1 %}\n", "\n{{ i }}", "\n\n{% set q %}\n\nx\n\n{% endset %}[{{ q }}]", "{% raw %}{{ i }}{% if %}{# c #}{% endraw %}", "a\n  {% raw %}\n  {{ i }}\n  {% endraw %}\nb", "a {%- raw -%} {{ i }} {%- endraw -%} b", "{%raw%}{%endraw%}", "{% raw %}a", "{% raw %}\n{% endraw %}x", "  {% raw %}  a  {% endraw %}  ", "a {# c", "a {{ i", "a {% if", "{{ }}", "{% %}", "{{ i }", "{{ i %}", "{% endif %}", "{% if yes %}", "{% for a in l %}{% endif %}", "{% foo %}", "a { b } {% if yes %}{{ '{{' }}{% endif %} }}", "{{ '}}' }}", "{% set q = '%}' %}{{ q }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{ {'a': 1}}}", "{{ [1, 2)] }}", "{{ (1 }}", "{{- i }} {{ i -}} ", "{%- for a in l %}\n  {{ a }}\n{%- endfor %}", "{% for a in l %}\n  {{ a }}\n{% endfor %}", "{% for a in l -%}\n  {{ a }}\n{%- endfor %}", "  {% for a in l %}\n    {% if a > 1 %}\n      {{ a }}\n    {% endif %}\n  {% endfor %}\n", "x{% if yes %}  {% endif %}y", "x\n  {%- if yes %}  \n  z{% endif %}", "{{ i }}{# a #}{# b #}\n{# c #}\nd", "# not a comment\n## x", "{{ \"a\nb\" }}", "{{ 'a\r\nb' }}", "{{\ni\n}}", "{% if\nyes\n%}a{% endif %}", "{{ i }}\u2028\n{% set q = 1 %}\nb", "  {% if yes %}a{% endif %}\n  {% if yes %}b{% endif %}", "{%- if yes %}\n\n  a{% endif %}", "a\n   {%- set q = 1 -%}   \n   b", "a  {{- '' }}  b", "{#- a -#}\n  x", "{{ i }}   {#- a #}", "a{% if yes %}\n\n\nb{% endif %}", "tail  \n  {% set q = 1 %}  ", "\t{% set q = 1 %}\t\n\tx", "{% if yes %}{% endif %}\n\n\nx", "a\u000b{% set q = 1 %}\u000cb", "a\n\u000b{% set q = 1 %}b",
)
# Syntax.
add("{{ 1 2 }}", "{{ 1 + }}", "{{ a b }}", "{{ 'a }}", "{{ a. }}", "{{ a[ }}", "{{ a.1b }}", "{{ 1a }}", "{{ a|}}", "{{ a is }}", "{{ ~ a }}", "{{ !a }}", "{{ a && b }}", "{{ a || b }}", "{{ a ? b : c }}", "{{ a ; b }}", "{{ lambda x: x }}", "{{ [a for a in l] }}", "{{ f'x' }}", "{{ a := 1 }}", "{{ $a }}", "{{ a@b }}", "{{ 'a' if }}", "{% if %}{% endif %}", "{% for %}{% endfor %}", "{% for a %}{% endfor %}", "{% for a in %}{% endfor %}", "{% set %}", "{% set a = %}", "{% set 1 = 2 %}", "{% else %}", "{% if a = 1 %}{% endif %}", "{% elif %}", "{% macro %}{% endmacro %}", "{% macro m %}{% endmacro %}", "{% call m %}{% endcall %}", "{{ range(1,) }}", "{{ m(a=1, 2) }}", "{{ dict(a=1, a=2) }}", "{{ 007 }}", "{{ 1.e5 }}", "{{ 1.5.x }}", "{{ .5 }}", "{{ 5. }}", "{{ 1__0 }}", "{{ 0xg }}", "{{ '\\N{BULLET}' if no else 1 }}", "{{ '\\x4' }}", "{{ 'a' 'b' ~ 'c' }}", "{{ (1, 2)|join }}", "{{ 1,|list }}", "{{ not }}", "{{ a not b }}", "{{ 1 not in [2] }}", "{{ i if yes else }}", "{% if yes: %}a{% endif %}", "{% for a in l: %}{{ a }}{% endfor %}", "{{ é }}", "{{ _x }}", "{{ True and False }}", "{{ TRUE }}", "{{ l.-1 }}", "{{ s.upper().lower()|upper.x }}", "{% set a = [1, 2, 3,] %}{{ a }}", "{{ -  -1 }}", "{{ +-1 }}", "{{ not not yes }}", "{{ 2 **-1 }}", "{{ (i) (1) }}", "{% with a = 1 b = 2 %}{% endwith %}", "{% if yes %}a{% else %}b{% else %}c{% endif %}", "{{ 'a'\n'b' }}", "{{ i|default(1)|abs is odd }}", "{{ 7 is divisibleby 7 and yes }}", "{{ 'a' is in ['a'] and 1 }}", "{{ 1 is odd or no }}", "{{ 3 is divisibleby i.real }}", "{{ s is string and s|length > 3 }}", "{{ l is not mapping and l[0] }}", "{{ i is defined if yes else 0 }}")
# What real templates do.
add(
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls %}{% for k, v in c.function.arguments.items() %}{{ k }}={{ v }};{% endfor %}{% endfor %}\n{% endfor %}",
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% elif m.content is iterable and m.content is not mapping %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}{% endfor %}",
    "{% for m in messages %}{{ '<' + m['role'] + '>' }}{% if m.get('tool_calls') %}{{ m.tool_calls[0].function.arguments | tojson }}{% endif %}{% endfor %}",
    "{%- set ns = namespace(last=-1) -%}{%- for m in messages[::-1] -%}{%- set index = (messages|length - 1) - loop.index0 -%}{%- if m.role == 'user' and ns.last < 0 -%}{%- set ns.last = index -%}{%- endif -%}{%- endfor -%}{{ ns.last }}",
    "{% set sys = messages|selectattr('role', 'equalto', 'system')|list|first %}{{ sys is defined }}{{ sys }}", "{% if messages[0]['role'] == 'system' %}s{% set loop_messages = messages[1:] %}{% else %}{% set loop_messages = messages %}{% endif %}{{ loop_messages|length }}",
    "{% macro render(v) %}{% if v is mapping %}{{ '{' }}{% for k, q in v|dictsort %}{{ k }}:{{ render(q) }}{{ ',' if not loop.last }}{% endfor %}{{ '}' }}{% elif v is string %}'{{ v }}'{% elif v is sequence %}[{% for q in v %}{{ render(q) }}{{ ',' if not loop.last }}{% endfor %}]{% else %}{{ v }}{% endif %}{% endmacro %}{{ render(messages[1].tool_calls) }}{{ render(nested) }}",
    "{% for m in messages %}{{ m.role + m.content }}{% endfor %}", "{% for m in messages %}{{ m.content.split('l')[-1] }}{% endfor %}", "{% for m in messages %}{{ m.reasoning.x }}{% endfor %}", "{{ messages[0].content + messages[2].content }}", "{{ messages[9].role }}", "{% if (messages[0].role == 'user') != (0 % 2 == 0) %}{{ raise_exception('order') }}{% endif %}ok", "{{ messages|map(attribute='role')|join(',') }}", "{{ messages[1].tool_calls[0].function.arguments }}", "{{ messages[1].tool_calls[0].function.arguments.lr }}", "{{ (messages|last).content[0]['text'] | trim }}", "{% for k, v in messages[1].items() if k != 'role' %}{{ k }} {% endfor %}", "{{ messages[1].tool_calls[0].function.arguments|items|list }}", "{% set x1 = 'a' ~ (bos_token or '') ~ 'b' %}{{ x1 }}", "{{ bos_token + 'a' }}", "{{ bos_token }}a", "{% if enable_thinking is defined and enable_thinking is false %}n{% else %}y{% endif %}", "{{ '' if enable_thinking is not defined else 'x' }}", "{{ [1.0, 2.5e-8, 1e100]|join(',') }}", "{{ {'a': 1e16, 'b': [1e-5]} ~ '' }}", "{{ messages[1].tool_calls|map(attribute='function')|map(attribute='name')|list }}", "{{ m.x.y|tojson(indent=4)|replace('\\n', '|') }}", "{{ ('a\\nb').split('\\n')|map('trim')|join(' ') }}",
)


def render(template):
    try:
        text = _compile_jinja_template(template).render(**copy.deepcopy(CONTEXT))
        text.encode()  # half a character is no text
        return text
    except Exception as error:
        if "--errors" in sys.argv:
            print(repr(template), "->", repr(error), file=sys.stderr)
        return None


def main():
    snippets = list(dict.fromkeys(SNIPPETS))
    rows = [[template, render(template)] for template in snippets]
    # An address is another one in every run.
    rows = [[template, text and re.sub("0x[0-9a-f]{8,}", "ADDRESS", text)] for template, text in rows]
    body = ",\n".join(json.dumps(row) for row in rows)
    (HERE / "battery.json").write_text('{"context": ' + json.dumps(CONTEXT) + ',\n"snippets": [\n' + body + "\n]}\n")
    print(f"{len(rows)} snippets, {sum(text is None for _, text in rows)} refused", file=sys.stderr)


main()
