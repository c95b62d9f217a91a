import { PlusOutlined } from "@ant-design/icons";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { Field, Resource } from "@/api/catalogue";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { screenOf } from "@/resources";
import { defaultColumns } from "./columns";
import { send } from "./commands";
import { FieldValue, Title } from "./field-value";
import { encodeFilter, quote } from "./filter";
import { columnOf, PagedTable } from "./plain-table";
import { pagesQuery, recordsOf, useSession } from "./queries";

interface Props {
  resource: Resource;
  /** The field that names the record. */
  field: Field;
  name: string;
  compact?: boolean;
}

const PAGE = 10;
const COLUMNS = 6;

/** Records that name this one; a new one is added in place and one stays here. */
export function RelatedList({ resource, field, name, compact = false }: Props) {
  const { t, label, plural, noun } = useText();
  const session = useSession();
  const filter = `${field.name}${field.many ? ":" : " = "}${quote(name)}`;
  const pages = useInfiniteQuery(
    pagesQuery(resource.collection, {
      filter,
      orderBy: screenOf(resource.collection).orderBy,
      pageSize: PAGE,
    }),
  );
  const fields = defaultColumns(resource)
    .filter((column) => column.name !== field.name)
    .slice(0, compact ? 4 : COLUMNS);
  const all = `/${resource.collection}?filter=${encodeURIComponent(encodeFilter({ groups: [[{ field: field.name, operator: field.many ? "contains" : "is", value: name }]] }))}`;
  const mayCreate = resource.has.create && may(session, resource.permissions.create);

  return (
    <section className="card">
      <div className="card-head">
        <h2>{plural(resource.label)}</h2>
        <span className="grow" />
        {recordsOf(pages).length > 0 && <Link to={all}>{t("home.all")}</Link>}
        {mayCreate && (
          <button
            type="button"
            className="icon-button"
            aria-label={t("form.newTitle", { what: noun(resource.label) })}
            onClick={() =>
              send({
                kind: "create",
                collection: resource.collection,
                values: { [field.name]: field.many ? [name] : name },
                onSaved: () => void pages.refetch(),
              })
            }
          >
            <PlusOutlined />
          </button>
        )}
      </div>
      <div className="card-body">
        <PagedTable
          caption={plural(resource.label)}
          pages={pages}
          lines={3}
          none={<p className="faint">{t("list.none", { what: plural(resource.label).toLowerCase() })}</p>}
          columns={fields.map((own, index) => ({
            ...columnOf(own, label),
            cell: (record) =>
              index === 0 ? (
                <Link to={`/${record.name}`}>
                  {own.name === resource.titleField ? (
                    <Title record={record} resource={resource} />
                  ) : (
                    <FieldValue field={own} value={record[own.name]} links={false} />
                  )}
                </Link>
              ) : (
                <FieldValue field={own} value={record[own.name]} />
              ),
          }))}
        />
      </div>
    </section>
  );
}
