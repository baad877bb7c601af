"""Packs bison's automaton of PostgreSQL's gram.y into one gzipped table.

usage: tables.py GRAM_C GRAM_XML KWLIST_H OUT

Layout, little-endian: ten arrays, each a u32 count and that many i32 (sizes;
yypact yydefact yypgoto yydefgoto yytable yycheck yyr1 yyr2), then a u32 length
and JSON {names, rules: [[lhs, rhs...]...], keywords: [[word, token, category]...]}.
Rule n of the automaton is rules[n-1].
"""
import gzip, json, re, struct, sys
import xml.etree.ElementTree as ET

gram_c, gram_xml, kwlist, out = sys.argv[1:5]
c = open(gram_c).read()


def array(name):
    body = re.search(r'static const \w+ ' + name + r'\[\] =\n\{(.*?)\};', c, re.S).group(1)
    return [int(x) for x in re.findall(r'-?\d+', body)]


def define(name):
    return int(re.search(r'#define ' + name + r'\s+\(?(-?\d+)\)?', c).group(1))


names = re.search(r'static const char \*const yytname\[\] =\n\{(.*?)\n\};', c, re.S).group(1)
names = [x.encode().decode('unicode_escape') for x in re.findall(r'"((?:[^"\\]|\\.)*)"', names)]
rules = []
for _, el in ET.iterparse(gram_xml, events=('end',)):
    if el.tag == 'grammar':
        for r in el.find('rules'):
            rules.append([r.find('lhs').text] + [s.text for s in r.find('rhs') if s.tag == 'symbol'])
        break
keywords = re.findall(r'PG_KEYWORD\("(\w+)",\s*(\w+),\s*(\w+)', open(kwlist).read())

arrays = {k: array(k) for k in 'yypact yydefact yypgoto yydefgoto yytable yycheck yyr1 yyr2'.split()}
for i, (lhs, *rhs) in enumerate(rules):
    if arrays['yyr2'][i + 1] != len(rhs) or names[arrays['yyr1'][i + 1]] != lhs:
        sys.exit(f'rule {i + 1} of the listing is not rule {i + 1} of the automaton: {lhs}')

sizes = [define(k) for k in ('YYFINAL', 'YYLAST', 'YYNTOKENS', 'YYPACT_NINF', 'YYTABLE_NINF')]
blob = b''
for a in [sizes, *arrays.values()]:
    blob += struct.pack('<I', len(a)) + struct.pack(f'<{len(a)}i', *a)
js = json.dumps({'names': names, 'rules': rules, 'keywords': keywords}).encode()
blob += struct.pack('<I', len(js)) + js
with open(out, 'wb') as f, gzip.GzipFile('', 'wb', 9, f, mtime=0) as z:
    z.write(blob)
