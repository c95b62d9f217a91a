import { EyeOutlined } from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Modal } from "antd";
import { useState } from "react";
import { explainAccess } from "@/api/client";
import { may } from "@/api/session";
import { useText } from "@/i18n";
import { useCatalogue, useSession } from "./queries";
import { ReferencePicker } from "./reference-picker";
import { Loaded } from "./states";

/** "Why can I see this?", answered by the server; who answers for roles may ask it for somebody else. */
export function AccessNote({ name }: { name: string }) {
  const { t } = useText();
  const [open, setOpen] = useState(false);
  return (
    <>
      <button type="button" className="link" aria-haspopup="dialog" onClick={() => setOpen(true)}>
        <EyeOutlined aria-hidden="true" /> {t("record.whySee")}
      </button>
      {open && <Answer name={name} onClose={() => setOpen(false)} />}
    </>
  );
}

function Answer({ name, onClose }: { name: string; onClose: () => void }) {
  const { t, label } = useText();
  const session = useSession();
  const catalogue = useCatalogue();
  const [employee, setEmployee] = useState("");
  const answer = useQuery({
    queryKey: ["record", name, "access", employee],
    queryFn: () => explainAccess(name, employee),
  });
  return (
    <Modal open title={t("record.whySee")} footer={null} onCancel={onClose}>
      <div className="stack">
        {may(session, "workspace.roles.explain") && (
          <div className="form-field">
            <label htmlFor="access-of">{t("access.whose")}</label>
            <ReferencePicker
              id="access-of"
              collection="employees"
              value={employee}
              onChange={(value) => setEmployee(String(value ?? ""))}
            />
          </div>
        )}
        <Loaded query={answer} lines={3}>
          {({ visible, grounds = [], actions = [], hiddenFields = [] }) => (
            <>
              <p role="status">
                <span className={`tag tag-${visible ? "good" : "bad"}`}>
                  {t(visible ? "access.visible" : "access.invisible")}
                </span>
              </p>
              <ul className="grounds">
                {grounds.map((ground) => (
                  <li key={`${ground.kind}-${ground.text}`}>{ground.text}</li>
                ))}
              </ul>
              {actions.some(({ allowed }) => !allowed) && (
                <details>
                  <summary>{t("access.refused")}</summary>
                  <ul className="grounds">
                    {actions
                      .filter(({ allowed }) => !allowed)
                      .map(({ action, permission }) => (
                        <li key={action}>{label(catalogue.permissionText(permission ?? ""))}</li>
                      ))}
                  </ul>
                </details>
              )}
              {hiddenFields.length > 0 && <p>{t("access.hidden", { count: hiddenFields.length })}</p>}
            </>
          )}
        </Loaded>
      </div>
    </Modal>
  );
}
