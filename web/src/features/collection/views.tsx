import { DownOutlined, StarOutlined } from "@ant-design/icons";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Input, Modal } from "antd";
import { useState } from "react";
import type { Schema } from "@/api/schema";
import { create, remove, update, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { NO_FILTER, parseFilter, quote } from "@/kit/filter";
import { MenuButton } from "@/kit/menu-button";
import { firstPageQuery, useCatalogue, useSession } from "@/kit/queries";
import { tell } from "@/kit/toasts";
import { messageOf } from "@/kit/verbs";
import type { ListState } from "./state";

type View = Schema<"workspace.SavedView"> & RecordJson;

interface Props {
  collection: string;
  state: ListState;
}

/** Lists as one likes them: filter, order, columns and kind under a name, kept on the server. */
export function Views({ collection, state }: Props) {
  const { t } = useText();
  const client = useQueryClient();
  const session = useSession();
  const declared = useCatalogue().find("savedViews");
  const readable = declared !== undefined && may(session, declared.permissions.read);
  const page = useQuery({
    ...firstPageQuery("savedViews", {
      filter: `collection = ${quote(collection)}`,
      orderBy: "displayName",
      pageSize: 100,
    }),
    enabled: readable,
  });
  const [naming, setNaming] = useState(false);
  const [open, setOpen] = useState<string>();
  if (!readable) return null;
  const views = (page.data?.records ?? []) as View[];
  const current = views.find((view) => view.name === open);
  const changed =
    current !== undefined && JSON.stringify(contentOf(state)) !== JSON.stringify(contentOfView(current));

  const show = (view: View | undefined) => {
    const filter = parseFilter(view?.filter ?? "");
    const [field = "", direction] = (view?.orderBy ?? "").split(" ");
    setOpen(view?.name);
    state.set({
      q: view?.q ?? "",
      mine: false,
      filter: filter ?? NO_FILTER,
      where: filter ? "" : (view?.filter ?? ""),
      order: field ? { field, descending: direction === "desc" } : undefined,
      columns: view?.columns ?? [],
      view: view?.kind === "BOARD" ? "board" : "list",
    });
  };
  const attempt = (work: Promise<unknown>, said: string) =>
    work
      .then(() => tell(said))
      .catch((error: unknown) => tell(messageOf(error), "bad"))
      .finally(() => void client.invalidateQueries({ queryKey: ["list", "savedViews"] }));

  return (
    <>
      <MenuButton
        className="chip"
        items={[
          { key: "all", label: t("views.all"), run: () => show(undefined) },
          ...views.map((view) => ({ key: view.name, label: view.displayName ?? "", run: () => show(view) })),
          { key: "new", label: t("views.saveAs"), apart: true, run: () => setNaming(true) },
          ...(current && changed
            ? [
                {
                  key: "save",
                  label: t("views.save", { name: current.displayName }),
                  run: () =>
                    void attempt(update(current.name, contentOf(state), current.etag), t("form.saved")),
                },
                { key: "reset", label: t("views.reset"), run: () => show(current) },
              ]
            : []),
          ...(current
            ? [
                {
                  key: "delete",
                  label: t("views.delete", { name: current.displayName }),
                  danger: true,
                  run: () => {
                    show(undefined);
                    void attempt(remove(current.name, current.etag), t("views.deleted"));
                  },
                },
              ]
            : []),
        ]}
      >
        <StarOutlined aria-hidden="true" /> {current?.displayName ?? t("views.title")}
        {changed && <em>{t("views.changed")}</em>} <DownOutlined aria-hidden="true" />
      </MenuButton>
      {naming && (
        <NameDialog
          onClose={() => setNaming(false)}
          onName={(displayName) => {
            setNaming(false);
            void attempt(
              create("savedViews", { collection, displayName, ...contentOf(state) }).then((view) =>
                setOpen(view.name),
              ),
              t("form.saved"),
            );
          }}
        />
      )}
    </>
  );
}

const contentOf = (state: ListState) => ({
  kind: state.view === "board" ? "BOARD" : "LIST",
  filter: state.filterText,
  orderBy: state.orderBy,
  q: state.q,
  columns: state.columns.map((column) => column.name),
});

const contentOfView = (view: View) => ({
  kind: view.kind ?? "LIST",
  filter: view.filter ?? "",
  orderBy: view.orderBy ?? "",
  q: view.q ?? "",
  columns: view.columns ?? [],
});

function NameDialog({ onName, onClose }: { onName: (name: string) => void; onClose: () => void }) {
  const { t } = useText();
  const [name, setName] = useState("");
  return (
    <Modal
      open
      title={t("views.saveAs")}
      okText={t("action.save")}
      cancelText={t("action.cancel")}
      okButtonProps={{ disabled: name.trim() === "" }}
      onOk={() => onName(name.trim())}
      onCancel={onClose}
    >
      <div className="form-field">
        <label htmlFor="view-name">{t("views.name")}</label>
        <Input
          id="view-name"
          value={name}
          maxLength={100}
          onChange={(event) => setName(event.target.value)}
        />
      </div>
    </Modal>
  );
}
