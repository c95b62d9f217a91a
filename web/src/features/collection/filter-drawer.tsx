import { Drawer } from "antd";
import { useState } from "react";
import type { Resource } from "@/api/catalogue";
import { useText } from "@/i18n";
import { NO_FILTER, type Filter } from "@/kit/filter";
import { FilterBuilder } from "@/kit/filter-builder";

interface Props {
  resource: Resource;
  filter: Filter;
  onApply: (filter: Filter) => void;
  onClose: () => void;
}

export function FilterDrawer({ resource, filter, onApply, onClose }: Props) {
  const { t } = useText();
  const [draft, setDraft] = useState(filter);
  const apply = (next: Filter) => {
    onApply(next);
    onClose();
  };
  return (
    <Drawer
      open
      size={560}
      title={t("filter.title")}
      onClose={onClose}
      footer={
        <div className="row">
          <button type="button" className="button button-primary" onClick={() => apply(draft)}>
            {t("filter.apply")}
          </button>
          <button type="button" className="button" onClick={() => apply(NO_FILTER)}>
            {t("filter.clear")}
          </button>
        </div>
      }
    >
      <FilterBuilder resource={resource} filter={draft} onChange={setDraft} />
    </Drawer>
  );
}
