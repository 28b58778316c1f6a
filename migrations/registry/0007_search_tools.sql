-- Finding tools by words. Texts come in with their words told apart already: letters and digits, lower case.

-- What a tool is found by: its name (A), as it is written and by its English stems; and by the stems of its title (B),
-- its description (C), and its capabilities and parameters (D).
CREATE FUNCTION registry.search_vector(name text, title text, description text, rest text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT setweight(to_tsvector('simple', name), 'A') || setweight(to_tsvector('english', name), 'A')
        || setweight(to_tsvector('english', title), 'B')
        || setweight(to_tsvector('english', description), 'C')
        || setweight(to_tsvector('english', rest), 'D')
$$;

-- What finds tools that have all of the words, or any of them: each as it is or by its stem. Words that English texts
-- are full of are left out, unless there are no others. The last word may be the start of one.
CREATE FUNCTION registry.search_query(words text[], need_all boolean) RETURNS tsquery
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
DECLARE
    sought  tsquery;
    one     tsquery;
    word    text;
    stem    text[];
    is_last boolean;
    telling text[] := ARRAY(SELECT w FROM unnest(words) WITH ORDINALITY AS u (w, place)
                             WHERE ts_lexize('english_stem', w) IS DISTINCT FROM '{}' ORDER BY place);
BEGIN
    IF cardinality(telling) = 0 THEN
        telling := words;
    END IF;
    FOR place IN 1 .. cardinality(telling) LOOP
        word := quote_literal(telling[place]);
        stem := ts_lexize('english_stem', telling[place]);
        is_last := place = cardinality(telling);
        one := to_tsquery('simple', word || CASE WHEN is_last THEN ':*' ELSE '' END);
        IF stem <> '{}' AND stem[1] <> telling[place] THEN
            one := one || to_tsquery('english', word);
        END IF;
        sought := CASE WHEN sought IS NULL THEN one WHEN need_all THEN sought && one ELSE sought || one END;
    END LOOP;
    RETURN sought;
END
$$;

-- The same telling apart as the service's, near enough, for tools that are there already.
CREATE FUNCTION pg_temp.words(written text) RETURNS text LANGUAGE sql AS $$
    SELECT regexp_replace(
        lower(regexp_replace(coalesce(written, ''), '([a-z0-9])([A-Z])', '\1 \2', 'g')),
        '[\x01-\x2f\x3a-\x40\x5b-\x60\x7b-\x7f]+', ' ', 'g')
$$;

-- Names and descriptions of a schema's parameters; none of one that jsonb cannot hold.
CREATE FUNCTION pg_temp.parameters(schema text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RETURN left(coalesce((SELECT string_agg(key || ' ' || coalesce(value ->> 'description', ''), ' ')
                          FROM jsonb_path_query(schema::jsonb, '$.**.properties ? (@.type() == "object")') AS properties,
                               jsonb_each(properties)
                          WHERE jsonb_typeof(value) = 'object'), ''), 32768);
EXCEPTION WHEN OTHERS THEN
    RETURN '';
END
$$;

UPDATE registry.tool t
SET search = registry.search_vector(
    pg_temp.words(t.name),
    pg_temp.words(v.definition::json ->> 'title'),
    pg_temp.words(v.definition::json ->> 'description'),
    pg_temp.words(array_to_string(t.capabilities, ' ') || ' ' || pg_temp.parameters(v.definition::json ->> 'input_schema')))
FROM registry.version v
WHERE v.team_id = t.team_id AND v.id = t.newest_id AND t.search = '';

DROP FUNCTION pg_temp.words(text);
DROP FUNCTION pg_temp.parameters(text);

CREATE INDEX tool_search ON registry.tool USING gin (search) WITH (fastupdate = off);
CREATE INDEX tool_capabilities ON registry.tool USING gin (capabilities) WITH (fastupdate = off);
CREATE INDEX tool_category ON registry.tool (team_id, category, name);
CREATE INDEX tool_provider ON registry.tool (team_id, provider, name);
CREATE INDEX tool_status ON registry.tool (team_id, effective_status, name);
