import { DownOutlined, StarOutlined } from "@ant-design/icons";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { Input, Modal } from "antd";
import { useEffect, useRef, useState } from "react";
import type { Schema } from "@/api/schema";
import { create, remove, update, type RecordJson } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { NO_FILTER, parseFilter, quote } from "@/kit/filter";
import { MenuButton } from "@/kit/menu-button";
import { firstPageQuery, useCatalogue, useSession } from "@/kit/queries";
import { ReferencePicker } from "@/kit/reference-picker";
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
  const [sharing, setSharing] = useState(false);
  const views = (page.data?.records ?? []) as View[];
  const mine = (view: View) => view["owner"] === session.employee;
  // Someone's shared default never takes the place of one's own.
  const first = views.find((view) => view.default && mine(view));
  const [open, setOpen] = useState<string>();
  const opened = useRef(false);
  useEffect(() => {
    if (opened.current || !page.data) return;
    opened.current = true;
    // A link says what it shows; the default is for those who come without one.
    if (first && !location.search) show(first);
  });
  if (!readable) return null;
  const current = views.find((view) => view.name === open);
  const changed =
    current !== undefined && JSON.stringify(contentOf(state)) !== JSON.stringify(contentOfView(current));

  function show(view: View | undefined) {
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
  }
  const attempt = (work: Promise<unknown>, said: string) =>
    work
      .then(() => tell(said))
      .catch((error: unknown) => tell(messageOf(error), "bad"))
      .finally(() => void client.invalidateQueries({ queryKey: ["list", "savedViews"] }));

  /** One default for each list: the one before gives way. */
  const setDefault = async (view: View) => {
    for (const other of views.filter((one) => one.default && mine(one) && one.name !== view.name))
      await update(other.name, { default: false }, other.etag);
    await update(view.name, { default: !view.default }, view.etag);
  };

  return (
    <>
      <MenuButton
        className="chip"
        items={[
          { key: "all", label: t("views.all"), run: () => show(undefined) },
          ...views.map((view) => ({
            key: view.name,
            label: [
              view.displayName,
              view.default && mine(view) ? t("views.isDefault") : "",
              mine(view) ? "" : t("views.shared"),
            ]
              .filter(Boolean)
              .join(" · "),
            run: () => show(view),
          })),
          { key: "new", label: t("views.saveAs"), apart: true, run: () => setNaming(true) },
          ...(current && changed && !mine(current)
            ? [{ key: "reset", label: t("views.reset"), run: () => show(current) }]
            : []),
          ...(current && changed && mine(current)
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
          ...(current && mine(current)
            ? [
                {
                  key: "default",
                  label: t(current.default ? "views.unsetDefault" : "views.setDefault"),
                  run: () => void attempt(setDefault(current), t("form.saved")),
                },
                { key: "share", label: t("views.share"), run: () => setSharing(true) },
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
      {sharing && current && (
        <ShareDialog
          view={current}
          onClose={() => setSharing(false)}
          onShare={(people) => {
            setSharing(false);
            void attempt(
              update(current.name, { collaborators: people }, current.etag),
              t("views.sharedDone"),
            );
          }}
        />
      )}
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

function ShareDialog({
  view,
  onShare,
  onClose,
}: {
  view: View;
  onShare: (people: string[]) => void;
  onClose: () => void;
}) {
  const { t } = useText();
  const [people, setPeople] = useState<string[]>((view["collaborators"] as string[] | undefined) ?? []);
  return (
    <Modal
      open
      title={t("views.share")}
      okText={t("action.save")}
      cancelText={t("action.cancel")}
      onOk={() => onShare(people)}
      onCancel={onClose}
    >
      <div className="form-field">
        <label htmlFor="view-people">{t("views.people")}</label>
        <ReferencePicker
          id="view-people"
          collection="employees"
          many
          value={people}
          onChange={(next) => setPeople(Array.isArray(next) ? next : [])}
        />
      </div>
    </Modal>
  );
}

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
