import { useQuery } from "@tanstack/react-query";
import { Select } from "antd";
import { useState } from "react";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import type { InputProps } from "./field-input";
import { firstPageQuery, titleOf, useCatalogue, useSession } from "./queries";
import { useSettled } from "./settled";

interface Party {
  address: string;
  displayName?: string;
}

const SHOWN = 20;

/** People with a mail address: typed, or found among the contacts. */
export function PartiesInput({ id, value, disabled, invalid, onChange }: InputProps) {
  const { t, language } = useText();
  const session = useSession();
  const contacts = useCatalogue().find("contacts");
  const parties = (value as Party[] | null | undefined) ?? [];
  const [typed, setTyped] = useState("");
  const q = useSettled(typed.trim());
  const found = useQuery({
    ...firstPageQuery("contacts", { q, pageSize: SHOWN }),
    enabled: q !== "" && contacts !== undefined && may(session, contacts.permissions.read),
  });
  const known = (found.data?.records ?? []).flatMap((contact) =>
    ((contact["emails"] as { address?: string }[] | undefined) ?? []).flatMap(({ address }) =>
      address ? [{ address, displayName: titleOf(contact, contacts, language) }] : [],
    ),
  );
  return (
    <Select
      id={id}
      mode="tags"
      style={{ width: "100%" }}
      value={parties.map(({ address }) => address)}
      disabled={disabled ?? false}
      status={invalid ? "error" : ""}
      placeholder={t("form.parties")}
      tokenSeparators={[",", "，", ";", "；", " "]}
      showSearch={{ filterOption: false, onSearch: setTyped }}
      options={known.map(({ address, displayName }) => ({
        value: address,
        label: `${displayName} <${address}>`,
      }))}
      onChange={(addresses: string[]) => {
        setTyped("");
        onChange(
          addresses.map(
            (address) => [...parties, ...known].find((party) => party.address === address) ?? { address },
          ),
        );
      }}
    />
  );
}
