"""What the questions of docs/questions.md need: revisions of windows, dead letters, all attributes, baskets, places."""

from alembic import op

revision = "0018"
down_revision = "0017"

_COMMENTS = {
    "window_revisions": (
        "every revision of every window, as published on sales.windows: 0 at the first firing, then more for late "
        "sales; the newest has the sums of the window's row",
        {
            "kind": "what the sums are of: store or product",
            "window_size": "length of the window",
            "window_start": "begin of the window, inclusive",
            "window_end": "end of the window, exclusive",
            "id": "the store or the product, as text",
            "revision": "0 at the first firing; each later change of a fired window adds 1",
            "transactions": "number of sales and returns",
            "units_sold": "pieces that were sold",
            "units_returned": "pieces that were returned, a positive number",
            "gross_sales": "sum of total_amount over sales",
            "returns_amount": "sum of -total_amount over returns",
            "discounts": "sum of discount_applied over sales and returns, with its sign",
            "taxes": "sum of tax_amount over sales and returns, with its sign",
            "net_sales": "gross_sales - returns_amount - discounts",
            "published_at": "when these sums were made, by the clock of the database",
        },
    ),
    "dead_letters": (
        "the dead letter topics as rows; retail-stream dlq load adds those that came since it last ran",
        {
            "entity": "sales, customers, products or stores",
            "partition": "partition of the dead letter topic",
            "offset": "offset in the dead letter topic",
            "published_at": "the timestamp of the rejected record; NULL if it is not a date",
            "source_partition": "the partition of the record in the raw topic; NULL if the letter does not say",
            "source_offset": "the offset of the record in the raw topic; NULL if the letter does not say",
            "rules": "the rules that the record broke; unnest(rules) makes a row of each",
            "rules_version": "the version of the rules; retail-stream rules shows it",
            "message": "each broken rule with the value that broke it",
            "key": "key of the record; bytes that are not UTF-8 as \\x and hex",
            "value": "the record by the fields of schemas/raw, times as ISO 8601; NULL if the bytes are no record",
        },
    ),
    "baskets": (
        "what a customer bought and returned at one moment: the sales of one store, customer and event_time",
        {
            "store_id": "the store, by the id of the source",
            "customer_id": "the customer, by the id of the source",
            "event_time": "when the sale took place, the same for all of its lines",
            "payment_method": "how it was paid",
            "lines": "number of sales and returns",
            "units_sold": "pieces that were sold",
            "units_returned": "pieces that were returned, a positive number",
            "gross_sales": "sum of total_amount over sales",
            "returns_amount": "sum of -total_amount over returns",
            "discounts": "sum of discount_applied over sales and returns, with its sign",
            "taxes": "sum of tax_amount over sales and returns, with its sign",
            "net_sales": "gross_sales - returns_amount - discounts",
        },
    ),
    **{
        f"{one}_places": (
            f"where each version of a {one} is: city and region out of the address",
            {
                f"{one}_sk": f"surrogate key of the version of the {one}",
                f"{one}_id": f"the {one}, by the id of the source",
                "address": "postal address",
                "city": "city_of(address): NULL for an address of another form",
                "region": "region_of(address): NULL for an address of another form",
                "valid_from": "begin of the version, inclusive",
                "valid_to": "end of the version, exclusive; NULL for the open one",
                "is_current": "true exactly for the open version, which has no valid_to",
            },
        )
        for one in ("customer", "store")
    },
    "sales_enriched": (
        "a row for each fact, with the versions of customer, product and store that were valid at its event_time; the "
        "first version for an older sale, NULLs in a gap after a delete. A query pays for the dimensions that it names",
        {
            "lateness": "published_at - event_time: how long after the sale its record was published",
            "too_late": "whether the sale was too late for one of its windows; late_sales says for which",
            "customer_address": "postal address of the customer, as of the sale",
            "customer_city": "city of that address; NULL for an address of another form",
            "customer_region": "region of that address; NULL for an address of another form",
            "join_date": "when the customer joined",
            "customer_phone_number": "phone number of the customer, as of the sale",
            "age": "age in years, as of the sale",
            "gender": "gender of the customer, as of the sale",
            "price": "price of one piece in the catalogue of the time; unit_price is what was paid",
            "stock_quantity": "pieces in stock, as of the sale",
            "size": "size of the product",
            "color": "colour of the product",
            "description": "description of the product, as of the sale",
            "store_address": "postal address of the store, as of the sale",
            "store_city": "city of that address; NULL for an address of another form",
            "store_region": "region of that address; NULL for an address of another form",
            "open_date": "when the store opened",
            "status": "status of the store, as of the sale",
            "store_phone_number": "phone number of the store, as of the sale",
        },
    ),
}
#: The end of an address: a city, a region of two capitals, a postcode of five digits, with or without four more.
_REGION = r"([A-Z]{2})[ ,]+[0-9]{5}(?:-[0-9]{4})?\s*$"
_CITY = rf"([^,\n]+)[,\s]+{_REGION.replace('([A-Z]{2})', '[A-Z]{2}')}"


def upgrade() -> None:
    """Create them. In a warehouse with windows, revisions are kept from now on; earlier ones are on `sales.windows`."""
    op.execute("""
        CREATE TABLE window_revisions (
            kind text COLLATE "C" NOT NULL,
            window_size interval NOT NULL,
            window_start timestamptz NOT NULL,
            window_end timestamptz NOT NULL,
            id text COLLATE "C" NOT NULL,
            revision integer NOT NULL,
            transactions bigint NOT NULL,
            units_sold bigint NOT NULL,
            units_returned bigint NOT NULL,
            gross_sales numeric(20,2) NOT NULL,
            returns_amount numeric(20,2) NOT NULL,
            discounts numeric(20,2) NOT NULL,
            taxes numeric(20,2) NOT NULL,
            net_sales numeric(20,2) NOT NULL GENERATED ALWAYS AS (gross_sales - returns_amount - discounts) STORED,
            published_at timestamptz NOT NULL,
            PRIMARY KEY (window_size, window_start, kind, id, revision)
        );
        INSERT INTO kept_since SELECT 'revisions', now() WHERE EXISTS (SELECT FROM sales_by_window);
        COMMENT ON COLUMN kept_since.what IS
            'windows: sales_by_window, sales_by_product_window and window_revisions; revisions: window_revisions';
        COMMENT ON COLUMN kept_since.since IS
            'windows: rows with an earlier window_start were deleted; revisions: earlier ones were never stored';

        CREATE TABLE dead_letters (
            entity text COLLATE "C" NOT NULL,
            partition integer NOT NULL,
            "offset" bigint NOT NULL,
            published_at timestamptz,
            source_partition integer,
            source_offset bigint,
            rules text[] NOT NULL,
            rules_version text,
            message text,
            key text,
            value jsonb,
            PRIMARY KEY (entity, partition, "offset")
        );

        CREATE VIEW baskets AS
        SELECT store_id, customer_id, event_time, min(payment_method COLLATE "C") AS payment_method, count(*) AS lines,
               coalesce(sum(quantity) FILTER (WHERE quantity >= 0), 0) AS units_sold,
               coalesce(-sum(quantity) FILTER (WHERE quantity < 0), 0) AS units_returned,
               coalesce(sum(total_amount) FILTER (WHERE quantity >= 0), 0) AS gross_sales,
               coalesce(-sum(total_amount) FILTER (WHERE quantity < 0), 0) AS returns_amount,
               sum(discount_applied) AS discounts, sum(tax_amount) AS taxes,
               sum(total_amount) - sum(discount_applied) AS net_sales
        FROM fact_sales
        GROUP BY store_id, customer_id, event_time;
    """)
    for name, pattern, says in (("city_of", _CITY, "city"), ("region_of", _REGION, "region")):
        op.execute(f"""
            CREATE FUNCTION {name}(address text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
                AS $$ SELECT btrim(substring(address FROM '{pattern}')) $$;
            COMMENT ON FUNCTION {name} IS
                'the {says} of an address that ends with city, region and postcode: "1 Main St, Salem, OR 97301"; '
                'NULL for others';
        """)
    for one in ("customer", "store"):
        op.execute(f"""
            CREATE VIEW {one}_places AS
            SELECT {one}_sk, {one}_id, address, city_of(address) AS city, region_of(address) AS region,
                   valid_from, valid_to, is_current
            FROM dim_{one}s
        """)
    op.execute(f"""
        CREATE OR REPLACE VIEW sales_enriched AS
        SELECT f.transaction_id, f.store_id, f.event_time, f.customer_id, f.product_id, f.quantity, f.unit_price,
               f.total_amount, f.payment_method, f.discount_applied, f.tax_amount,
               c.customer_sk, c.name AS customer_name, c.email AS customer_email, c.loyalty_points,
               p.product_sk, p.name AS product_name, p.category, p.brand,
               s.store_sk, s.name AS store_name, s.manager,
               f.extra, f.published_at, f.source_partition, f.source_offset,
               f.published_at - f.event_time AS lateness,
               EXISTS (
                   SELECT FROM late_sales l
                   WHERE l.store_id = f.store_id AND l.event_time = f.event_time
                     AND l.source_partition = f.source_partition AND l.source_offset = f.source_offset
               ) AS too_late,
               c.address AS customer_address, city_of(c.address) AS customer_city,
               region_of(c.address) AS customer_region, c.join_date, c.phone_number AS customer_phone_number, c.age,
               c.gender,
               p.price, p.stock_quantity, p.size, p.color, p.description,
               s.address AS store_address, city_of(s.address) AS store_city, region_of(s.address) AS store_region,
               s.open_date, s.status, s.phone_number AS store_phone_number
        FROM (
            SELECT f.*, {", ".join(_last_version(one) for one in ("customer", "product", "store"))} FROM fact_sales f
        ) f
        {_of("customer", "c")} {_of("product", "p")} {_of("store", "s")}
    """)
    for relation, (words, columns) in _COMMENTS.items():
        kind = "TABLE" if relation in ("window_revisions", "dead_letters") else "VIEW"
        op.execute(f"COMMENT ON {kind} {relation} IS $${words}$$")
        for column, text in columns.items():
            op.execute(f'COMMENT ON COLUMN {relation}."{column}" IS $${text}$$')


def _last_version(one: str) -> str:
    """SQL: the surrogate key of the last version with valid_from <= event_time, or of the first for an older sale.

    A value of the select list, which Postgres leaves out of a query that does not use it; so is the join to its row.
    Each is one step into an index, whatever the length of the history.
    """
    versions = f"SELECT v.{one}_sk FROM dim_{one}s v WHERE v.{one}_id = f.{one}_id"
    return f"""
        coalesce(
            ({versions} AND v.valid_from <= f.event_time ORDER BY v.valid_from DESC LIMIT 1),
            ({versions} ORDER BY v.valid_from LIMIT 1)) AS last_{one}
    """


def _of(one: str, alias: str) -> str:
    """SQL: the join to that version. One that ended before event_time does not match: there is a gap after a delete."""
    return f"""
        LEFT JOIN dim_{one}s {alias} ON {alias}.{one}_sk = f.last_{one}
            AND ({alias}.valid_to IS NULL OR {alias}.valid_to > f.event_time)
    """
