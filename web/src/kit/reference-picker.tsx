import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import { useEffect, useState } from "react";
import { splitName, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { send } from "./commands";
import { Reference } from "./field-value";
import { firstPageQuery, titleOf, useCatalogue, useSession } from "./queries";

const SETTLE_MS = 200;
const SHOWN = 20;

interface Props {
  id: string;
  collection: string;
  value: string | string[] | undefined;
  many?: boolean;
  disabled?: boolean;
  invalid?: boolean;
  filter?: string | undefined;
  /** Stands in the empty field in place of "choose a …". */
  hint?: string;
  onChange: (value: string | string[] | undefined) => void;
}

/** Finds records on the server as one types: fragments, pinyin initials, numbers. */
export function ReferencePicker({
  id,
  collection,
  value,
  many = false,
  disabled,
  invalid,
  filter,
  hint,
  onChange,
}: Props) {
  const { t, language, noun } = useText();
  const session = useSession();
  const resource = useCatalogue().find(collection);
  const [typed, setTyped] = useState("");
  const [q, setQ] = useState("");
  const [open, setOpen] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setQ(typed.trim()), SETTLE_MS);
    return () => clearTimeout(timer);
  }, [typed]);
  const found = useQuery({
    ...firstPageQuery(collection, { q, pageSize: SHOWN, filter }),
    enabled: open && resource !== undefined,
    placeholderData: (before) => before,
  });

  const options = (found.data?.records ?? []).map((record: RecordJson) => ({
    value: record.name,
    label: titleOf(record, resource, language),
    detail: typeof record["number"] === "string" ? record["number"] : "",
  }));

  return (
    <Select
      id={id}
      style={{ width: "100%" }}
      showSearch={{ filterOption: false, onSearch: setTyped, searchValue: typed }}
      allowClear
      disabled={disabled ?? false}
      status={invalid ? "error" : ""}
      mode={many ? "multiple" : undefined}
      value={value === "" ? undefined : value}
      open={open}
      onOpenChange={setOpen}
      onChange={(next: string | string[] | undefined) => {
        setTyped("");
        onChange(next);
      }}
      options={options}
      optionRender={(option) => (
        <span className="option">
          <span className="cut">{option.label}</span>{" "}
          <small>{(option.data as { detail: string }).detail}</small>
        </span>
      )}
      labelRender={({ value: name }) => (name ? <Reference name={String(name)} link={false} /> : null)}
      loading={found.isFetching}
      placeholder={hint ?? (resource ? t("form.pick", { what: noun(resource.label) }) : "")}
      notFoundContent={found.isFetching ? t("state.loading") : t("search.none")}
      popupRender={(menu) => (
        <>
          {menu}
          {resource?.has.create && may(session, resource.permissions.create) && !many && (
            <button
              type="button"
              className="link picker-new"
              onMouseDown={(event) => event.preventDefault()}
              onClick={() => {
                setOpen(false);
                send({
                  kind: "create",
                  collection,
                  values: typed ? { [resource.titleField]: typed } : {},
                  onSaved: (name) => onChange(name),
                });
              }}
            >
              + {t("form.newTitle", { what: noun(resource.label) })}
            </button>
          )}
        </>
      )}
    />
  );
}

/** For references that may name several collections, the one of the value or the first declared. */
export const collectionOfValue = (value: unknown, declared: readonly string[]) =>
  typeof value === "string" && value.includes("/") ? splitName(value).collection : (declared[0] ?? "");
