-- hash_texts: the hash of each text that partition_of uses, in order. Reads no table. $1 texts.
select hashtextextended(t.text, 0) from unnest($1::text[]) with ordinality as t (text, number) order by t.number
