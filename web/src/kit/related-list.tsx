import { PlusOutlined } from "@ant-design/icons";
import { useInfiniteQuery } from "@tanstack/react-query";
import { Link } from "react-router";
import type { Field, Resource } from "@/api/catalogue";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { screenOf } from "@/resources";
import { defaultColumns } from "./columns";
import { send } from "./commands";
import { isNumber } from "./data-grid";
import { FieldValue } from "./field-value";
import { encodeFilter, quote } from "./filter";
import { pagesQuery, titleOf, useSession } from "./queries";
import { ErrorNote, Skeleton } from "./states";
import { MorePages } from "./more-pages";

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
  const { t, language, label, plural, noun } = useText();
  const session = useSession();
  const filter = `${field.name}${field.many ? ":" : " = "}${quote(name)}`;
  const pages = useInfiniteQuery(
    pagesQuery(resource.collection, {
      filter,
      orderBy: screenOf(resource.collection).orderBy,
      pageSize: PAGE,
    }),
  );
  const records = pages.data?.pages.flatMap((page) => page.records) ?? [];
  const columns = defaultColumns(resource)
    .filter((column) => column.name !== field.name)
    .slice(0, compact ? 4 : COLUMNS);
  const all = `/${resource.collection}?filter=${encodeURIComponent(encodeFilter({ groups: [[{ field: field.name, operator: field.many ? "contains" : "is", value: name }]] }))}`;
  const mayCreate = resource.has.create && may(session, resource.permissions.create);

  return (
    <section className="card">
      <div className="card-head">
        <h2>{plural(resource.label)}</h2>
        <span className="grow" />
        {records.length > 0 && <Link to={all}>{t("home.all")}</Link>}
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
      <div className="card-body lines-scroll">
        {pages.isError ? (
          <ErrorNote error={pages.error} onRetry={() => void pages.refetch()} />
        ) : pages.isPending ? (
          <Skeleton lines={3} />
        ) : records.length === 0 ? (
          <p className="faint">{t("list.none", { what: plural(resource.label).toLowerCase() })}</p>
        ) : (
          <table className="plain">
            <caption className="visually-hidden">{plural(resource.label)}</caption>
            <thead>
              <tr>
                {columns.map((column) => (
                  <th key={column.name} scope="col" className={isNumber(column) ? "number" : ""}>
                    {label(column.label)}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {records.map((record) => (
                <tr key={record.name}>
                  {columns.map((column, index) => (
                    <td key={column.name} className={isNumber(column) ? "number" : ""}>
                      {index === 0 ? (
                        <Link to={`/${record.name}`}>
                          {column.name === resource.titleField ? (
                            titleOf(record, resource, language)
                          ) : (
                            <FieldValue field={column} value={record[column.name]} links={false} />
                          )}
                        </Link>
                      ) : (
                        <FieldValue field={column} value={record[column.name]} />
                      )}
                    </td>
                  ))}
                </tr>
              ))}
            </tbody>
          </table>
        )}
        <MorePages pages={pages} />
      </div>
    </section>
  );
}
